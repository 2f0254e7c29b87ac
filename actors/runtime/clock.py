"""Time as something that is passed in, so that a whole system can run in simulated time."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What the runtime knows of time."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""


class LoopClock:
    """The running event loop's own time: real on a real loop, virtual on a simulated one.

    Wall time is the wall time at construction plus what the loop's clock has advanced since, so
    that both move together in a simulation.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wall_ns: int | None = None) -> None:
        self._born_s = loop.time()
        self._born_wall_ns = time.time_ns() if wall_ns is None else wall_ns
        self.monotonic: Callable[[], float] = _fastest_time(loop)

    def wall_ns(self) -> int:
        return self._born_wall_ns + int((self.monotonic() - self._born_s) * 1e9)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _fastest_time(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """`loop.time`, or the C function behind it where asyncio adds nothing of its own."""
    plain = isinstance(loop, asyncio.BaseEventLoop) and type(loop).time is asyncio.BaseEventLoop.time
    return time.monotonic if plain else loop.time
