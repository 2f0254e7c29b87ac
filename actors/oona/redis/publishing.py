"""Messages as operations on their way to the server: awaited, queued, parked, or given to it once more."""

import asyncio
from typing import Final, Protocol

import msgspec

from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import BusError
from actors.oona.parking import Ticket
from actors.oona.redis.call import Call
from actors.oona.redis.outgoing import Outgoing
from actors.oona.redis.wire import Op, Published, decoder, published

OUTCOMES: Final = {
    each.value: each for each in (Outcome.ACCEPTED, Outcome.REROUTED, Outcome.DUPLICATE, Outcome.UNROUTED)
}
ACCEPTED: Final = Outcome.ACCEPTED
TAKEN: Final = ("accepted", "rerouted")
_TOLD: Final = decoder(str, Published)
"""The keys of its entries alone mean that a message was accepted."""


class Desk(Protocol):
    """Where the answers go."""

    def sign(self, envelope: bytes) -> bytes: ...
    def taken(self, item: Outgoing, keys: str) -> None: ...
    def awaited_answered(self, call: "Awaited", published: Published) -> None: ...
    def awaited_failed(self, call: "Awaited", error: BusError, sent: bool) -> None: ...
    def queued_answered(self, item: Outgoing, published: Published) -> None: ...
    def queued_unsent(self, item: Outgoing) -> None: ...
    def queued_wanted(self, call: "Queued") -> bool: ...
    def parked_answered(self, call: "Parked", published: Published) -> None: ...
    def parked_failed(self, call: "Parked", error: BusError, sent: bool) -> None: ...
    def parked_wanted(self, call: "Parked") -> bool: ...
    def again_answered(self, item: Outgoing, published: Published) -> None: ...


class Publish(Call, msgspec.Struct, eq=False):
    """One message."""

    patient = True
    desk: Desk
    item: Outgoing
    size: int
    """The item's."""

    def write(self, blobs: list[bytes]) -> Op:
        """Signed when it is sent, not when it was queued: a signature is good for a minute only."""
        item = self.item
        envelope_ix, signature_ix = len(blobs), -1
        blobs.append(item.envelope)
        if signature := self.desk.sign(item.envelope):
            blobs.append(signature)
            signature_ix = envelope_ix + 1
        expires_s = False if item.expires_s is None else item.expires_s
        return (
            "publish", item.topic, item.event_id, int(item.priority), item.published_s, expires_s,
            envelope_ix, signature_ix,
        )  # fmt: skip


class Awaited(Publish, eq=False):
    """Its publisher waits."""

    answer: "asyncio.Future[Receipt]"

    def wanted(self) -> bool:
        return not self.answer.done()

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        told = _TOLD.decode(result)
        if isinstance(told, str):
            if told:
                self.desk.taken(self.item, told)
            if not self.answer.done():
                self.answer.set_result(Receipt(self.item.event_id, ACCEPTED))
        else:
            self.desk.awaited_answered(self, told)

    def failed(self, error: BusError, sent: bool) -> None:
        self.desk.awaited_failed(self, error, sent)

    def settle(self, answer: Receipt | BusError) -> None:
        """Answer the publisher, if that was not done before."""
        if self.answer.done():
            return
        if isinstance(answer, BusError):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class Queued(Publish, eq=False):
    """Its publisher has gone on; it lies in the outbox. A newer round of its line makes this sending void."""

    round: int

    def wanted(self) -> bool:
        return self.desk.queued_wanted(self)

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self.desk.queued_answered(self.item, published(result))

    def failed(self, error: BusError, sent: bool) -> None:
        if not sent:
            self.desk.queued_unsent(self.item)

    def given_up(self, error: BusError) -> None:
        """It waits to be tried again: under its event id that does no harm."""
        self.desk.queued_unsent(self.item)


class Parked(Publish, eq=False):
    """Its publisher waits for room; it is offered once more."""

    ticket: Ticket

    def wanted(self) -> bool:
        return self.desk.parked_wanted(self)

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self.desk.parked_answered(self, published(result))

    def failed(self, error: BusError, sent: bool) -> None:
        self.desk.parked_failed(self, error, sent)


class Again(Publish, eq=False):
    """A new server is given what the old one had taken."""

    keeps = True

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        self.desk.again_answered(self.item, published(result))
