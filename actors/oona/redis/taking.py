"""What a subscription says to the server: that it joins, takes, and has done."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from actors.oona.errors import BusError
from actors.oona.redis.call import Call, Order
from actors.oona.redis.wire import Given, Op, Refusal, decoder, given

TAKE_MAX: Final = 512
"""Messages taken at a time."""
ACKS_MAX: Final = 256
"""Acknowledgements in one operation."""
ACKS_AS_ONE: Final = 8
"""So many weigh as much as any other operation."""
_JOINED: Final = decoder(bool, Refusal)


class Taker(Protocol):
    """The subscription."""

    @property
    def topics(self) -> Sequence[str]: ...
    @property
    def group(self) -> str: ...
    @property
    def consumer(self) -> str: ...
    @property
    def lossy(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def permitted(self, limit: int) -> int: ...
    def took(self, take: "Take", told: Given | bool, blobs: list[bytes]) -> None: ...
    def took_nothing(self, take: "Take") -> None: ...
    def took_too_much(self, take: "Take") -> None: ...
    def join_answered(self, topic: str, answer: bool | Refusal) -> None: ...


class Take(Call):
    """Asks for at most `limit` messages; `done` when there is an answer, or none can be had."""

    __slots__ = ("_taker", "done", "hasty", "limit")
    heavy = True

    def __init__(self, taker: Taker, limit: int, hasty: bool) -> None:
        self.hasty = hasty
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.limit = limit
        self._taker = taker

    def wanted(self) -> bool:
        if self._taker.closed:
            self._done()
        return not self._taker.closed

    def write(self, blobs: list[bytes]) -> Op:
        to = self._taker
        return ("take", to.group, to.consumer, to.topics, self.limit, to.permitted(self.limit))

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self._taker.took(self, given(result), blobs)
        self._done()

    def failed(self, error: BusError, sent: bool) -> None:
        self._taker.took_nothing(self)
        self._done()

    def given_up(self, error: BusError) -> None:
        self._taker.took_too_much(self)
        self._done()

    def _done(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Join(Call):
    """Makes the server know a consumer."""

    __slots__ = ("_taker", "_topic")
    keeps = True

    def __init__(self, taker: Taker, topic: str) -> None:
        self._taker = taker
        self._topic = topic

    def write(self, blobs: list[bytes]) -> Op:
        to = self._taker
        return ("join", self._topic, to.group, to.consumer, to.lossy)

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self._taker.join_answered(self._topic, _JOINED.decode(result))


class Acks(Order):
    """What a consumer has done of one topic; more may be added until it is sent, or can't be."""

    __slots__ = ("_attempts", "_entries", "sealed", "weight")
    hasty = True

    def __init__(self, topic: str, group: str) -> None:
        self._entries: list[str] = []
        self._attempts: list[int] = []
        self.sealed = False
        self.weight = 1
        super().__init__(("ack", topic, group, self._entries, self._attempts))

    def add(self, entry: str, attempt: int) -> None:
        self._entries.append(entry)
        self._attempts.append(attempt)
        count = len(self._entries)
        self.weight = 1 + count // ACKS_AS_ONE
        if count >= ACKS_MAX:
            self.sealed = True

    def write(self, blobs: list[bytes]) -> Op:
        self.sealed = True
        return super().write(blobs)

    def failed(self, error: BusError, sent: bool) -> None:
        self.sealed = True
