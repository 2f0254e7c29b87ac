"""Periodic messages to an actor, on the clock that was passed in."""

import asyncio
from collections.abc import Callable

from actors.runtime.clock import Clock
from actors.runtime.errors import MailboxFull

TIMERS_MAX = 16
"""Timers one actor may run at a time."""


class Timer:
    """Sends one message every `seconds`; a full mailbox skips that turn and counts it."""

    def __init__(self, clock: Clock, seconds: float, send: Callable[[], None]) -> None:
        if seconds <= 0:
            raise ValueError(f"a timer can't fire every {seconds:g} s; give it a time above 0")
        self.skipped = 0
        self._clock = clock
        self._seconds = seconds
        self._send = send
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """Send nothing more."""
        self._task.cancel()

    async def _run(self) -> None:
        due = self._clock.monotonic()
        while True:
            due = max(due + self._seconds, self._clock.monotonic())
            await self._clock.sleep(due - self._clock.monotonic())
            try:
                self._send()
            except MailboxFull:
                self.skipped += 1


class Timers:
    """The timers of one actor instance, cancelled together when it ends."""

    def __init__(self, actor: str, clock: Clock) -> None:
        self._actor = actor
        self._clock = clock
        self._running: list[Timer] = []

    def every(self, seconds: float, send: Callable[[], None]) -> Timer:
        """Start a timer; `ValueError` beyond `TIMERS_MAX`."""
        if len(self._running) >= TIMERS_MAX:
            raise ValueError(
                f"{self._actor} can't start another timer: {TIMERS_MAX} run; cancel one or use one"
            )
        timer = Timer(self._clock, seconds, send)
        self._running.append(timer)
        return timer

    def close(self) -> None:
        """Cancel all."""
        for timer in self._running:
            timer.cancel()
        self._running.clear()
