"""Messages as operations on their way to the server: awaited, queued, parked, or given to it once more."""

import asyncio
from typing import Final, Protocol

import msgspec

from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import BusError
from actors.oona.parking import Ticket
from actors.oona.redis.call import Call
from actors.oona.redis.outgoing import Outgoing
from actors.oona.redis.wire import Op, Published, published

OUTCOMES: Final = {
    each.value: each for each in (Outcome.ACCEPTED, Outcome.REROUTED, Outcome.DUPLICATE, Outcome.UNROUTED)
}
TAKEN: Final = ("accepted", "rerouted")


class Desk(Protocol):
    """Where the answers go."""

    def sign(self, envelope: bytes) -> bytes: ...
    def awaited_answered(self, call: "Awaited", published: Published) -> None: ...
    def awaited_failed(self, call: "Awaited", error: BusError, sent: bool) -> None: ...
    def queued_answered(self, item: Outgoing, published: Published) -> None: ...
    def queued_unsent(self, item: Outgoing) -> None: ...
    def queued_wanted(self, call: "Queued") -> bool: ...
    def parked_answered(self, call: "Parked", published: Published) -> None: ...
    def parked_failed(self, call: "Parked", error: BusError, sent: bool) -> None: ...
    def parked_wanted(self, call: "Parked") -> bool: ...
    def again_answered(self, item: Outgoing, published: Published) -> None: ...


class Publish(Call):
    """One message."""

    __slots__ = ("_desk", "item", "size")
    patient = True

    def __init__(self, desk: Desk, item: Outgoing) -> None:
        self._desk = desk
        self.item = item
        self.size = item.size

    def write(self, blobs: list[bytes]) -> Op:
        """Signed when it is sent, not when it was queued: a signature is good for a minute only."""
        item = self.item
        blobs.append(item.envelope)
        envelope_ix = len(blobs) - 1
        signature_ix = -1
        if signature := self._desk.sign(item.envelope):
            blobs.append(signature)
            signature_ix = envelope_ix + 1
        expires_s = False if item.expires_s is None else item.expires_s
        return (
            "publish", item.topic, item.event_id, int(item.priority), item.published_s, expires_s,
            envelope_ix, signature_ix,
        )  # fmt: skip


class Awaited(Publish):
    """Its publisher waits."""

    __slots__ = ("answer",)

    def __init__(self, desk: Desk, item: Outgoing) -> None:
        super().__init__(desk, item)
        self.answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

    def wanted(self) -> bool:
        return not self.answer.done()

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self._desk.awaited_answered(self, published(result))

    def failed(self, error: BusError, sent: bool) -> None:
        self._desk.awaited_failed(self, error, sent)

    def settle(self, answer: Receipt | BusError) -> None:
        """Answer the publisher, if that was not done before."""
        if self.answer.done():
            return
        if isinstance(answer, BusError):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class Queued(Publish):
    """Its publisher has gone on; it lies in the outbox. A newer round of its line makes this sending void."""

    __slots__ = ("round",)

    def __init__(self, desk: Desk, item: Outgoing, round_: int) -> None:
        super().__init__(desk, item)
        self.round = round_

    def wanted(self) -> bool:
        return self._desk.queued_wanted(self)

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self._desk.queued_answered(self.item, published(result))

    def failed(self, error: BusError, sent: bool) -> None:
        if not sent:
            self._desk.queued_unsent(self.item)

    def given_up(self, error: BusError) -> None:
        """It waits to be tried again: under its event id that does no harm."""
        self._desk.queued_unsent(self.item)


class Parked(Publish):
    """Its publisher waits for room; it is offered once more."""

    __slots__ = ("ticket",)

    def __init__(self, desk: Desk, item: Outgoing, ticket: Ticket) -> None:
        super().__init__(desk, item)
        self.ticket = ticket

    def wanted(self) -> bool:
        return self._desk.parked_wanted(self)

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self._desk.parked_answered(self, published(result))

    def failed(self, error: BusError, sent: bool) -> None:
        self._desk.parked_failed(self, error, sent)


class Again(Publish):
    """A new server is given what the old one had taken."""

    __slots__ = ()
    keeps = True

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self._desk.again_answered(self.item, published(result))
