"""Telling in passing: no refusal and no message without bytes reaches who tells."""

import asyncio
import logging

import msgspec
import pytest

from actors.oona.bus import Receipt
from actors.oona.errors import ClosedError
from actors.oona.memory import MemoryBus
from actors.oona.policy import Overflow, TopicPolicy
from actors.oona.telling import tell
from actors.runtime import LoopClock
from contracts.wire import WireError


class Note(msgspec.Struct, frozen=True):
    """A message."""


class Wordless(MemoryBus):
    """Can't put a message into bytes."""

    def publish_nowait(self, *_: object, **__: object) -> Receipt:
        raise WireError("Note.text: no UTF-8")


def a_bus(kind: type[MemoryBus]) -> MemoryBus:
    policy = TopicPolicy(groups=("g",), capacity=1, overflow=Overflow.REJECT)
    return kind({"t": policy}, LoopClock(asyncio.get_running_loop()))


def test_a_refusal_is_counted_by_the_bus_and_goes_no_further() -> None:
    async def main() -> None:
        bus = a_bus(MemoryBus)
        for number in range(3):
            tell(bus, "t", Note(), f"e{number}")
        (row,) = [row for row in bus.metrics().published if row.ledger.published]
        assert (row.ledger.published, row.ledger.refused) == (3, 2)

    asyncio.run(main())


def test_a_message_without_bytes_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        tell(a_bus(Wordless), "t", Note(), "e1")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.messages == ["t e1 is not published: Note.text: no UTF-8"]


def test_a_mistake_of_ones_own_is_raised() -> None:
    async def main() -> None:
        bus = a_bus(MemoryBus)
        await bus.close()
        with pytest.raises(ClosedError):
            tell(bus, "t", Note(), "e1")

    asyncio.run(main())
