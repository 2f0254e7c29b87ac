"""A breaker: after failures in a row it stops further tries, later lets one probe through and goes by that.

CLOSED ──failures_max in a row──▶ OPEN ──open_s pass──▶ HALF_OPEN ──probe succeeds──▶ CLOSED
                                   ▲                        │
                                   └──────probe fails───────┘
"""

import enum

from actors.oona.policy import BreakerPolicy


class BreakerState(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Time is passed in, in seconds. Any success closes it."""

    __slots__ = ("_opened_s", "_policy", "_probing", "failures")

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._opened_s: float | None = None
        self._probing = False
        self.failures = 0

    @property
    def closed(self) -> bool:
        return self._opened_s is None

    def state(self, now_s: float) -> BreakerState:
        if self._opened_s is None:
            return BreakerState.CLOSED
        rested = now_s - self._opened_s >= self._policy.open_s
        return BreakerState.HALF_OPEN if rested else BreakerState.OPEN

    def permits(self, now_s: float, wanted: int) -> int:
        """How many of the `wanted` tries may be made now: all, none, or the one probe."""
        if self._opened_s is None:
            return wanted
        if self._probing or self.state(now_s) is BreakerState.OPEN:
            return 0
        return min(wanted, 1)

    def began(self) -> None:
        """A try that was permitted has begun; unless the breaker is closed it is the probe."""
        self._probing = self._opened_s is not None

    def withdrawn(self) -> None:
        """A try ended without a result; if it was the probe another may be made."""
        self._probing = False

    def succeeded(self) -> None:
        self._opened_s = None
        self._probing = False
        self.failures = 0

    def failed(self, now_s: float) -> None:
        """While open, a failure of a try that began earlier changes nothing."""
        self.failures += 1
        tripped = self._opened_s is None and self.failures >= self._policy.failures_max
        if tripped or self._probing:
            self._opened_s = now_s
        self._probing = False

    def retry_in_s(self, now_s: float) -> float:
        """Seconds until a probe is let through; 0 when one may be made now."""
        if self._opened_s is None:
            return 0.0
        return max(0.0, self._opened_s + self._policy.open_s - now_s)
