"""Oona acts: keeps the bus's house on the clock, and answers what is on it."""

import asyncio

import msgspec

from actors.oona.bus import Bus, DeadLetter
from actors.oona.metrics import BusMetrics
from actors.runtime import Actor, handles
from contracts.request import Request


class ReadMetrics(msgspec.Struct, Request[BusMetrics], frozen=True):
    """What happened on the bus so far?"""


class ReadDeadLetters(msgspec.Struct, Request[tuple[DeadLetter, ...]], frozen=True):
    """What was given up, oldest first?"""


class Oona(Actor[ReadMetrics | ReadDeadLetters]):
    """The bus's keeper. Publishers and consumers use the bus itself; its keeper's restart loses nothing."""

    mailbox_size = 64

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._housekeeping: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        self._housekeeping = asyncio.create_task(self._bus.run_housekeeping(), name="oona-housekeeping")

    async def on_stop(self) -> None:
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.wait({self._housekeeping})

    @handles
    async def on_read_metrics(self, _: ReadMetrics) -> BusMetrics:
        return self._bus.metrics()

    @handles
    async def on_read_dead_letters(self, _: ReadDeadLetters) -> tuple[DeadLetter, ...]:
        return tuple(await self._bus.dead_letters.list())
