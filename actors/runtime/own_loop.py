"""Runs a coroutine on an event loop of its own, also where a loop is running already (a notebook)."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from actors.runtime.governor import Governor, governed_loop
from actors.runtime.interpreter import shared_interpreter

T = TypeVar("T")

CANCEL_S = 5.0
"""Seconds that a cancelled run may take to end."""


def run_on_own_loop(governor: Governor, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `main()` returns or raises; in this thread, or in another one if this one's loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with shared_interpreter(), asyncio.Runner(loop_factory=lambda: governed_loop(governor)) as runner:
            return runner.run(main())
    return _elsewhere(governor, main)


def _elsewhere(governor: Governor, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The same in a thread; an interrupt that comes while this one waits cancels the run."""
    result: Future[T] = Future()
    started: Future[Callable[[], object]] = Future()

    async def cancellable() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        started.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await main()

    def work() -> None:
        try:
            result.set_result(run_on_own_loop(governor, cancellable))
        except BaseException as error:  # noqa: BLE001 - it is not handled here but raised where it is waited for
            result.set_exception(error)

    thread = threading.Thread(target=work, name="run", daemon=True)
    thread.start()
    try:
        return result.result()
    except KeyboardInterrupt:
        if not result.done():
            started.result(CANCEL_S)()
            thread.join(CANCEL_S)
        raise
