"""Asks that wait for their reply, and the one sweeper that ends those whose deadline has passed.

A timer an ask would cost more than the ask. Here asks lie in buckets of `TICK_S` by deadline, a
reply takes its ask out again, and one timer is set to the earliest bucket that is not empty.
"""

import asyncio
import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeVar

from actors.runtime.errors import AskTimeout

R = TypeVar("R")

TICK_S = 0.0005
"""Seconds after its deadline within which an ask is ended, beside what the loop itself is late.

An idle loop on epoll adds up to 1 ms, which is the step of its waits."""


class Ask(asyncio.Future[R]):
    """A request on its way: the future of its reply, carrying the message and its deadline."""

    __slots__ = ("actor", "deadline", "deadline_s", "message")

    def __init__(
        self, actor: str, message: object, deadline_s: float, now: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(loop=loop)
        self.actor = actor
        self.message = message
        self.deadline_s = deadline_s
        self.deadline = now + deadline_s

    @property
    def tick(self) -> int:
        """Number of the bucket at whose end the deadline has passed."""
        return math.ceil(self.deadline / TICK_S)

    def expire(self) -> None:
        """Answer with `AskTimeout`, unless it has been answered."""
        self.fail(AskTimeout(self.actor, type(self.message).__name__, self.deadline_s))

    def fail(self, error: BaseException) -> None:
        """Answer with `error`, unless it has been answered."""
        if not self.done():
            self.set_exception(error)


class Sweeper:
    """Holds every unanswered ask of a system and expires each at its deadline."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._loop = loop
        self._monotonic = monotonic
        self._buckets: dict[int, dict[Ask[object], None]] = {}
        self._ticks: list[int] = []
        self._open = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed_tick = 0

    def __len__(self) -> int:
        return self._open

    def add(self, ask: Ask[object]) -> None:
        """Expire `ask` at its deadline unless it is discarded before."""
        tick = ask.tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heappush(self._ticks, tick)
            if self._timer is None or tick < self._armed_tick:
                self._arm(tick)
        bucket[ask] = None
        self._open += 1

    def discard(self, ask: Ask[object]) -> None:
        """Forget an ask that has its answer; nothing happens if it is not held."""
        bucket = self._buckets.get(ask.tick)
        if bucket is not None and ask in bucket:
            del bucket[ask]
            self._open -= 1
            if not self._open:
                self.close()  # an idle system is not woken for nothing

    def close(self) -> None:
        """Stop the timer and forget all asks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._buckets.clear()
        self._ticks.clear()
        self._open = 0

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_tick = tick
        self._timer = self._loop.call_later(max(0.0, tick * TICK_S - self._monotonic()), self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._monotonic()
        while self._ticks and (self._ticks[0] * TICK_S <= now or not self._buckets[self._ticks[0]]):
            bucket = self._buckets.pop(heappop(self._ticks))
            self._open -= len(bucket)
            for ask in bucket:
                ask.expire()
        if self._ticks:
            self._arm(self._ticks[0])
