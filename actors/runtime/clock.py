"""Time as something that is passed in, so that a whole system can run in simulated time."""

import asyncio
import time
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
        self._loop = loop
        self._born_s = loop.time()
        self._born_wall_ns = time.time_ns() if wall_ns is None else wall_ns

    def monotonic(self) -> float:
        return self._loop.time()

    def wall_ns(self) -> int:
        return self._born_wall_ns + int((self._loop.time() - self._born_s) * 1e9)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
