"""Where blocking work goes: worker threads for real, in place in a simulation."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

WORKERS_MAX = 4
"""Blocking calls that run at a time; the next ones wait for a free worker."""


class Threads(Protocol):
    """Runs a blocking function without holding the event loop."""

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work()` returns, or raise what it raises."""


class WorkerThreads:
    """A bounded pool of anyio's worker threads."""

    def __init__(self, workers: int = WORKERS_MAX) -> None:
        self._workers = workers
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, work: Callable[[], T]) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._workers)
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)


class InlineThreads:
    """Runs the work at once, on the loop: for simulations, whose order no thread may disturb."""

    async def run(self, work: Callable[[], T]) -> T:
        await anyio.lowlevel.checkpoint()
        return work()
