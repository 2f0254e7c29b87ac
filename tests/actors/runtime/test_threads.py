"""Blocking work beside the loop."""

import asyncio
import threading

import pytest

from actors.runtime import InlineThreads, WorkerThreads
from tests.actors.runtime.sample import simulated


def test_worker_threads_run_elsewhere_and_give_back_results_and_errors() -> None:
    async def main() -> None:
        threads = WorkerThreads(workers=1)
        assert await threads.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)

    asyncio.run(main())


def test_inline_threads_run_in_place_and_in_order() -> None:
    async def main() -> None:
        assert await InlineThreads().run(threading.get_ident) == threading.get_ident()

    simulated(main)
