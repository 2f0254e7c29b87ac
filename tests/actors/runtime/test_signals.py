"""SIGINT and SIGTERM, sent to this very process."""

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.runtime.signals import StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_and_is_given_back(number: signal.Signals) -> None:
    async def main() -> signal.Signals | None:
        stopped = asyncio.Event()
        async with StopSignals(stopped.set) as signals:
            os.kill(os.getpid(), number)
            await stopped.wait()
        return signals.received

    assert asyncio.run(main()) is number


def test_a_second_interrupt_ends_the_run_at_once() -> None:
    stops: list[int] = []

    async def main() -> None:
        stopped = asyncio.Event()

        def stop() -> None:
            stops.append(1)
            stopped.set()

        async with StopSignals(stop):
            os.kill(os.getpid(), signal.SIGINT)
            await stopped.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert stops == [1]


def test_what_a_second_interrupt_does_can_be_said() -> None:
    told: list[int] = []

    async def main() -> None:
        stopped = asyncio.Event()
        async with StopSignals(stopped.set, lambda number, _: told.append(number)):
            os.kill(os.getpid(), signal.SIGINT)
            await stopped.wait()
            os.kill(os.getpid(), signal.SIGINT)

    asyncio.run(main())
    assert told == [signal.SIGINT]


def test_another_thread_hears_no_signals_and_changes_no_handler() -> None:
    before = signal.getsignal(signal.SIGINT)

    async def main() -> object:
        async with StopSignals(lambda: None):
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: asyncio.run(main())).result() == before


def test_the_handlers_from_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def main() -> None:
        async with StopSignals(lambda: None):
            assert signal.getsignal(signal.SIGTERM) != before[1]

    asyncio.run(main())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_nothing_received_is_none() -> None:
    async def main() -> None:
        async with StopSignals(lambda: None) as signals:
            pass
        assert signals.received is None

    asyncio.run(main())
