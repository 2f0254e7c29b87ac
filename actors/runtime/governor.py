"""Keeps a busy event loop from starving the training thread of the interpreter lock.

A loop that always has something ready releases the lock only for moments, and the thread that waits
for it is never woken in time: training can come to a complete stop. `sleep(0)` does not help; a real
block of a millisecond or more does. So the loop's selector keeps an account: work is owed rest, a
select that really waits pays it back, and once `rest_s` is owed, after `work_s` of work, it blocks.
A boundary that begins ends the rest at once: from then on training waits for the loop.
"""

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable

WORK_S = 0.002
"""Seconds that the loop may work before it must let the training thread in."""
REST_S = 0.0035
"""Seconds that it then blocks. A thread beside a saturated loop gets a little less than the share
`REST_S / (WORK_S + REST_S)` of its time, as waking it takes some of each rest."""
RESTS_MAX = 4
"""A burst of work without any select in it is paid back at once, by at most this many rests."""
WAIT_S_MIN = 0.0003
"""Seconds that a select must have waited to count as rest: in less, the other thread has hardly woken."""
LOOK_EVERY_S = 0.0005
"""While callbacks are ready the selector is asked this often at most. Each look hands the interpreter lock to
the training thread and back, which takes as long as several callbacks; and what one callback wakes needs no
look."""


class Governor:
    """Two switches, flipped from any thread, and what came of them.

    `active`: a training thread runs, and the loop makes room for it. `boundary_active`: training waits
    for the loop, so the loop runs freely and low-priority work keeps quiet.
    """

    def __init__(self, *, work_s: float = WORK_S, rest_s: float = REST_S) -> None:
        self.active = False
        self.work_s = work_s
        self.rest_s = rest_s
        self.rests = 0
        self._wanted = threading.Event()  # set while training waits for the loop

    @property
    def boundary_active(self) -> bool:
        return self._wanted.is_set()

    @boundary_active.setter
    def boundary_active(self, active: bool) -> None:
        if active:
            self._wanted.set()
        else:
            self._wanted.clear()

    def rest(self, seconds: float) -> None:
        """Block this thread, without the interpreter lock, for `seconds` or until a boundary begins."""
        self._wanted.wait(seconds)

    def boundary_quiet(self) -> bool:
        """Whether drains, rendering and flushes that can wait should wait: a boundary is being decided."""
        return self.boundary_active


class GovernedSelector(selectors.DefaultSelector):
    """The platform's selector, with the rests that the governor orders."""

    def __init__(
        self,
        governor: Governor,
        now: Callable[[], float] = time.perf_counter,
        block: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__()
        self._governor = governor
        self._now = now
        self._block = governor.rest if block is None else block
        self._owed_s = 0.0  # rest that the loop has worked for and not yet taken
        self._left_at: float | None = None  # when the last select returned; None while not governed
        self._look_at = -math.inf  # until then nobody looks while callbacks are ready

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        governor, entered_at = self._governor, self._now()
        if timeout is not None and timeout <= 0 and entered_at < self._look_at:
            return []
        ready = super().select(timeout)
        left_at = self._now()
        self._look_at = left_at + LOOK_EVERY_S
        if not governor.active or governor.boundary_active:
            self._owed_s, self._left_at = 0.0, None
            return ready
        waited_s = left_at - entered_at if left_at - entered_at >= WAIT_S_MIN else 0.0
        if self._left_at is not None:
            worked_s = left_at - self._left_at - waited_s
            self._owed_s = max(0.0, self._owed_s + worked_s * governor.rest_s / governor.work_s - waited_s)
        if self._owed_s >= governor.rest_s:
            governor.rests += 1
            self._block(min(self._owed_s, RESTS_MAX * governor.rest_s))
            self._owed_s = 0.0
            left_at = self._now()
        self._left_at = left_at
        return ready


def governed_loop(governor: Governor) -> asyncio.SelectorEventLoop:
    """An event loop that rests when `governor` says so; for `asyncio.Runner(loop_factory=…)`."""
    return asyncio.SelectorEventLoop(GovernedSelector(governor))
