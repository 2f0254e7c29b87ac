"""What a mailbox is made of: its lanes, what is queued in them, and who waits for a slot."""

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Generator
from enum import StrEnum
from typing import NamedTuple

from actors.runtime.asks import Ask


class Overflow(StrEnum):
    """What a full normal lane does with the next message. A full urgent lane never drops but refuses."""

    WAIT = "wait"
    REFUSE = "refuse"
    DROP_OLDEST = "drop_oldest"


class Urgent:
    """Marks a queued item as one of the urgent lane."""

    __slots__ = ("item",)

    def __init__(self, item: object) -> None:
        self.item = item


def unwrapped(item: object) -> object:
    """What was sent, without its lane."""
    return item.item if isinstance(item, Urgent) else item


class Parked(NamedTuple):
    """A sender that waits for a slot. An ask waits for its reply anyway and needs no future of its own."""

    item: object
    admitted: asyncio.Future[None] | None

    def gone(self) -> bool:
        """Whether the sender gave up: it was cancelled, or its ask expired."""
        if self.admitted is not None:
            return self.admitted.done()
        return isinstance(self.item, Ask) and self.item.done()


class Lane:
    """One lane's bound, its waiting senders and its counts."""

    __slots__ = ("capacity", "dropped", "high_water", "name", "overflow", "parked", "refused")

    def __init__(self, name: str, capacity: int, overflow: Overflow) -> None:
        if capacity < 1:
            raise ValueError(f"the {name} lane can't hold {capacity} messages; give it room for at least 1")
        self.name = name
        self.capacity = capacity
        self.overflow = overflow
        self.parked: deque[Parked] = deque()
        self.high_water = 0
        self.refused = 0
        self.dropped = 0


@types.coroutine
def _nothing() -> Generator[None, None, None]:
    return
    yield


def _exhausted() -> Awaitable[None]:
    generator = _nothing()
    for _ in generator:
        raise AssertionError("yields nothing")
    return generator


DONE: Awaitable[None] = _exhausted()
"""What a tell returns when there was room. A spent generator can be awaited again and again."""
