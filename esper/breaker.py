"""A breaker: after failures in a row it stops further tries, later lets one probe through and goes by that.

CLOSED ──failures_max in a row──▶ OPEN ──rest passes──▶ HALF_OPEN ──probe succeeds──▶ CLOSED
                                   ▲                        │
                                   └──────probe fails───────┘

Time is a number that is passed in, in the caller's unit: the bus counts seconds, the grafting engine epochs.
"""

import enum
import math
from typing import NamedTuple


class BreakerState(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerMemory(NamedTuple):
    """What a breaker goes on from."""

    failures: int = 0
    opened: float | None = None
    """When it opened; None while it is closed."""
    held: bool = False


class Breaker:
    """`rest` is how long it stays open before a probe. Any success closes it, unless it is held open."""

    __slots__ = ("_failures_max", "_held", "_opened", "_probing", "_rest", "failures")

    def __init__(self, failures_max: int, rest: float, memory: BreakerMemory | None = None) -> None:
        memory = memory or BreakerMemory()
        self._failures_max = failures_max
        self._rest = rest
        self._opened = memory.opened
        self._held = memory.held
        self._probing = False
        self.failures = memory.failures

    @property
    def closed(self) -> bool:
        return self._opened is None

    @property
    def as_new(self) -> bool:
        """Its memory is that of a new one."""
        return self._opened is None and not self.failures and not self._held

    @property
    def memory(self) -> BreakerMemory:
        """What another goes on from; a probe that is under way is not in it."""
        return BreakerMemory(self.failures, self._opened, self._held)

    def state(self, now: float) -> BreakerState:
        if self._opened is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.retry_in(now) > 0.0 else BreakerState.HALF_OPEN

    def permits(self, now: float, wanted: int) -> int:
        """How many of the `wanted` tries may be made now: all, none, or the one probe."""
        if self._opened is None:
            return wanted
        if self._probing or self.state(now) is BreakerState.OPEN:
            return 0
        return min(wanted, 1)

    def began(self) -> None:
        """A try that was permitted has begun; unless the breaker is closed it is the probe."""
        self._probing = self._opened is not None

    def withdrawn(self) -> None:
        """A try ended without a result; if it was the probe another may be made."""
        self._probing = False

    def succeeded(self) -> None:
        self._probing = False
        if not self._held:
            self._opened = None
            self.failures = 0

    def failed(self, now: float) -> None:
        """While open, a failure of a try that began earlier changes nothing."""
        self.failures += 1
        tripped = self._opened is None and self.failures >= self._failures_max
        if tripped or self._probing:
            self._opened = now
        self._probing = False

    def put(self, state: BreakerState, now: float) -> None:
        """Set it by hand: closed, ready for a probe, or open until it is set otherwise."""
        self._probing = False
        self._held = state is BreakerState.OPEN
        match state:
            case BreakerState.CLOSED:
                self._opened, self.failures = None, 0
            case BreakerState.OPEN:
                self._opened = now
            case BreakerState.HALF_OPEN:
                self._opened = now - self._rest

    def retry_in(self, now: float) -> float:
        """How long until a probe is let through; 0 when one may be made now, infinite while held open."""
        if self._opened is None:
            return 0.0
        return math.inf if self._held else max(0.0, self._opened + self._rest - now)
