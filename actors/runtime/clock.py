"""Time as something that is passed in, so that a whole system can run in simulated time."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

JUMP_S = 1.0
"""Seconds by which a wall clock has to be off at once to have been set, and not steadily corrected."""


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

    On a real loop wall time is the machine's, which may be set at any moment, forwards or back, and goes on
    while the machine sleeps: what others stamp can be compared with it. On a simulated loop, or where the
    wall time at construction is given, it is that plus what the loop's clock has advanced since.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wall_ns: int | None = None,
        machine_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._born_s = loop.time()
        self._born_wall_ns = machine_ns() if wall_ns is None else wall_ns
        self._machine_ns = machine_ns if wall_ns is None and _is_real(loop) else None
        self.monotonic: Callable[[], float] = time.monotonic if _is_real(loop) else loop.time

    def wall_ns(self) -> int:
        if self._machine_ns is not None:
            return self._machine_ns()
        return self._born_wall_ns + int((self.monotonic() - self._born_s) * 1e9)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class WallJumps:
    """Notices that the wall clock was set: it has moved by another amount than time has passed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = self._offset()

    def look(self) -> float:
        """Seconds by which it was put forward, or back if they are negative, since the last look; else 0."""
        before, self._offset_s = self._offset_s, self._offset()
        jump_s = self._offset_s - before
        return jump_s if abs(jump_s) > JUMP_S else 0.0

    def _offset(self) -> float:
        return self._clock.wall_ns() / 1e9 - self._clock.monotonic()


def _is_real(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop's time is `time.monotonic`, to which asyncio adds nothing of its own."""
    return isinstance(loop, asyncio.BaseEventLoop) and type(loop).time is asyncio.BaseEventLoop.time
