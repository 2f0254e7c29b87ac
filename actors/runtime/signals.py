"""SIGINT and SIGTERM end a run cleanly; a second SIGINT ends it at once."""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, TypeAlias

STOPPING = (signal.SIGINT, signal.SIGTERM)

Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers
"""What `signal.signal` takes."""


class StopSignals:
    """While entered, the first stop signal calls `stop` on the loop and is kept in `received`.

    From then on SIGINT does what `again` says, by default raise `KeyboardInterrupt`, wherever the main
    thread is, whether or not the loop still turns. On exit the handlers from before are back. In another
    thread, which no signal reaches, nothing happens.

        async with StopSignals(run.stop) as signals:
            await run.finished()
        return 0 if signals.received is None else 128 + signals.received
    """

    def __init__(
        self, stop: Callable[[], object], again: Handler | None = signal.default_int_handler
    ) -> None:
        self.received: signal.Signals | None = None
        self._stop = stop
        self._again = signal.default_int_handler if again is None else again
        self._before: dict[signal.Signals, Any] = {}  # what signal.signal gives back and takes

    async def __aenter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            self._before[number] = signal.getsignal(number)
            loop.add_signal_handler(number, self._on_signal, number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in self._before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.received is not None:
            return  # SIGTERM again: the run is ending
        self.received = number
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, self._again)
        self._stop()
