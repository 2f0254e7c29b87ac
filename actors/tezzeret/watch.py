"""The limits of one job, checked from outside the process that does it."""

from collections.abc import Callable
from typing import Final, Protocol

from actors.tezzeret.failures import OutOfMemory, TimedOut

WATCH_S: Final = 0.02
"""Seconds between two looks."""
STARVED_TIMES: Final = 10.0
"""However little the machine lets it run, a job ends after so many times its limit."""


class Watched(Protocol):
    """What can be told of a process from outside."""

    def queued_s(self) -> float: ...
    def memory_bytes(self) -> int: ...


class Watch:
    """Begins now; `look()` every `WATCH_S`."""

    def __init__(self, child: Watched, job_s: float, memory_bytes: int, now: Callable[[], float]) -> None:
        self._child = child
        self._job_s = job_s
        self._memory_bytes = memory_bytes
        self._now = now
        self._began_s = now()
        self._queued_s = child.queued_s()
        self._looked_s = self._began_s

    def look(self) -> None:
        """Nothing if a limit holds, or was looked at a moment ago.

        Raises:
            TimedOut, OutOfMemory: the process is still to be killed.
        """
        now_s = self._now()
        if now_s - self._looked_s < WATCH_S:
            return
        self._looked_s = now_s
        taken_s = now_s - self._began_s
        starved_s = max(0.0, self._child.queued_s() - self._queued_s)
        if taken_s - starved_s > self._job_s or taken_s > STARVED_TIMES * self._job_s:
            starved = f" ({starved_s:.1f} s of it starved)" if starved_s > 1.0 else ""
            raise TimedOut(f"it was not done after {taken_s:.1f} s{starved}; it may take {self._job_s:g} s")
        held = self._child.memory_bytes()
        if held > self._memory_bytes:
            raise OutOfMemory(
                f"it holds {held / 2**20:.0f} MiB of memory; it may hold {self._memory_bytes / 2**20:.0f}"
            )
