"""One consumer: what it is called, whether it may have more, and how to tell it that there is more."""

from collections.abc import Callable

from actors.oona.entry import Entry
from actors.oona.policy import BreakerPolicy
from esper.breaker import Breaker


class Consumer:
    """`wake`, while set, is called once when a message comes to wait in one of its groups."""

    __slots__ = ("breaker", "name", "wake")

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.name = name
        self.breaker = Breaker(policy.failures_max, policy.open_s)
        self.wake: Callable[[], None] | None = None

    def failed(self, entry: Entry, now_s: float) -> None:
        """Count a failure, but once for a message: one that keeps failing may be to blame itself."""
        if entry.failed_by != self.name or not self.breaker.closed:
            self.breaker.failed(now_s)
        entry.failed_by = self.name
