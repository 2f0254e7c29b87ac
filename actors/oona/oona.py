"""Oona acts: keeps the bus's house, round by round, on the clock."""

import msgspec

from actors.oona.bus import Bus
from actors.runtime import Actor, handles


class Keep(msgspec.Struct, frozen=True):
    """A round of housekeeping is due."""


class Oona(Actor[Keep]):
    """The bus's keeper. Publishers and consumers use the bus itself; its keeper's restart loses nothing."""

    mailbox_size = 1  # the round that waits serves for all that come due meanwhile

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def on_start(self) -> None:
        self.context.every(self._bus.tick_s, Keep())

    @handles
    async def on_keep(self, _: Keep) -> None:
        await self._bus.keep_house()
