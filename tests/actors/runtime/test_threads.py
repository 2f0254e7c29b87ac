"""Blocking work beside the loop."""

import asyncio
import subprocess
import sys
import threading

import pytest

from actors.runtime import InlineThreads, WorkerThreads
from tests.actors.runtime.sample import in_virtual_time


def test_worker_threads_run_elsewhere_and_give_back_results_and_errors() -> None:
    async def main() -> None:
        threads = WorkerThreads(workers=1)
        assert await threads.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)

    asyncio.run(main())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(7)])
def test_work_that_would_end_the_process_has_failed_like_any_other(error: BaseException) -> None:
    def work() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(RuntimeError, match=type(error).__name__) as caught:
            await WorkerThreads().run(work)
        assert caught.value.__cause__ is error, "whose traceback says where"

    asyncio.run(main())


@in_virtual_time
async def test_inline_threads_run_in_place_and_in_order() -> None:
    assert await InlineThreads().run(threading.get_ident) == threading.get_ident()


def test_no_more_work_runs_at_a_time_than_there_are_workers() -> None:
    async def main() -> None:
        threads, gate, running = WorkerThreads(workers=2), threading.Event(), []

        def work() -> int:
            running.append(1)
            gate.wait(10)
            return len(running)

        calls = [asyncio.create_task(threads.run(work)) for _ in range(5)]
        while len(running) < 2:  # noqa: ASYNC110 - a thread can't set an asyncio.Event
            await asyncio.sleep(0)
        assert len(running) == 2
        gate.set()
        await asyncio.gather(*calls)

    asyncio.run(main())


def test_work_that_never_ends_does_not_keep_the_process_alive() -> None:
    program = """
import asyncio, threading
from actors.runtime import WorkerThreads

async def main():
    call = asyncio.create_task(WorkerThreads().run(threading.Event().wait))
    await asyncio.sleep(0.05)
    call.cancel()

asyncio.run(main())
print("over")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout == "over\n"
    assert ran.stderr == ""
