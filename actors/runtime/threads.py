"""Where blocking work goes: worker threads for real, in place in a simulation."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

import anyio
import anyio.lowlevel

T = TypeVar("T")

WORKERS_MAX = 4
"""Blocking calls that run at a time; the next ones wait for a free worker."""


class Threads(Protocol):
    """Runs a blocking function without holding the event loop."""

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work()` returns, or raise what it raises."""


class WorkerThreads:
    """Worker threads that the process does not wait for: work that never ends can't keep it alive.

    anyio's and asyncio's own workers are joined when the interpreter exits. A cancelled call leaves
    its thread behind, and what that comes to is dropped.
    """

    def __init__(self, workers: int = WORKERS_MAX) -> None:
        self._workers = workers
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, work: Callable[[], T]) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._workers)
        async with self._limiter:
            outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            worker = threading.Thread(target=_work, args=(work, outcome), name="esper worker", daemon=True)
            worker.start()
            return await outcome


class InlineThreads:
    """Runs the work at once, on the loop: for simulations, whose order no thread may disturb."""

    async def run(self, work: Callable[[], T]) -> T:
        await anyio.lowlevel.checkpoint()
        return work()


def _work(work: Callable[[], T], outcome: "asyncio.Future[T]") -> None:
    """Do the work, and hand over what came of it on the loop that waits, if it still does."""
    loop = outcome.get_loop()
    try:
        result = work()
    except BaseException as raised:  # noqa: BLE001 - raised again where it is awaited
        error = _carried(raised)
        _hand_over(loop, outcome, lambda: outcome.set_exception(error))
    else:
        _hand_over(loop, outcome, lambda: outcome.set_result(result))


def _hand_over(
    loop: asyncio.AbstractEventLoop, outcome: "asyncio.Future[T]", settle: Callable[[], None]
) -> None:
    with suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(lambda: None if outcome.done() else settle())


def _carried(error: BaseException) -> Exception:
    """An ordinary error: a future can't carry StopIteration, and what ends a process is no order to us."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    ordinary = RuntimeError(f"the work raised {error!r}")
    ordinary.__cause__ = error
    return ordinary
