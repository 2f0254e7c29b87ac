"""The publishing side of the bus on Redis: hands over, waits for room, keeps what may not be lost."""

import asyncio
from collections.abc import Callable
from typing import Final

from actors.oona import texts
from actors.oona.bus import Outcome, Receipt
from actors.oona.conservative import Conservative
from actors.oona.errors import (
    BusError,
    ClosedError,
    OutboxFullError,
    RefusedError,
    UncertainError,
    UnreachableError,
)
from actors.oona.parking import Ticket
from actors.oona.policy import Overflow
from actors.oona.redis.anew import SigningAnew
from actors.oona.redis.call import Call
from actors.oona.redis.link import Link
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.outbox import Outbox
from actors.oona.redis.outgoing import Outgoing
from actors.oona.redis.publishing import OUTCOMES, TAKEN, Again, Awaited, Parked, Queued
from actors.oona.redis.refusals import refusal
from actors.oona.redis.settling import Settling
from actors.oona.redis.topics import KnownTopic
from actors.oona.redis.turned import TurnedAway
from actors.oona.redis.wire import Published

_RETRIES_MAX: Final = 64
"""Parked publishers of a topic whose messages are offered again at a time."""


class Post:
    """Implements `Desk`. `sign` gives an envelope's signature, `now_s` the bus's time."""

    def __init__(
        self,
        topics: dict[str, KnownTopic],
        link: Link,
        conservative: Conservative,
        options: RedisOptions,
        sign: Callable[[bytes], bytes],
        now_s: Callable[[], float],
    ) -> None:
        self.outbox = Outbox(
            {name: topic.sheddable for name, topic in topics.items()},
            options.outbox_messages_max,
            options.outbox_bytes_max,
        )
        self.turned = TurnedAway()
        self.lost = 0
        self.server_full = False
        self.sign = sign
        self._topics = topics
        self._link = link
        self._conservative = conservative
        self._options = options
        self._now_s = now_s
        self._retry_at_s = 0.0
        self._settling = Settling(self.outbox, link)
        self._anew = SigningAnew(self.outbox, link, self, options.retry_s)

    # Awaited

    def offer(self, item: Outgoing) -> Awaited | None:
        """Send it; None if there is no room to retain it. In the outbox it counts until it is done there."""
        topic = self._topics[item.topic]
        if topic.sheddable or self.outbox.admit(item):
            return self._offer(topic, item)
        return None

    async def offer_with_room(self, item: Outgoing) -> Awaited:
        """Send it as soon as enough of what is retained is settled. That takes its part of the server's
        deadline: the call ends when all of it has passed. Raises OutboxFullError."""
        topic = self._topics[item.topic]
        until_s = await self._room_to_retain(item)
        call = self._offer(topic, item)
        due = asyncio.get_running_loop().call_at(until_s, self._overdue, topic, call)
        call.answer.add_done_callback(lambda _: due.cancel())
        return call

    def _offer(self, topic: KnownTopic, item: Outgoing) -> Awaited:
        call = Awaited(self, item, item.size, asyncio.get_running_loop().create_future())
        if self.outbox.waits(item.topic):
            self._push(topic)
        if topic.parking.tickets and not item.urgent:
            self._park(topic, call)
        else:
            self._link.submit(call)
        return call

    async def _room_to_retain(self, item: Outgoing) -> float:
        """Wait for it; when the deadline passes, on the loop's clock."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._options.deadline_s
        while not self.outbox.admit(item):
            left_s = until_s - loop.time()
            if left_s <= 0 or not self._link.up:
                self.turned.add(item, "refused")
                raise OutboxFullError(
                    f"{item.topic} can't take {item.event_id}: {self.outbox.messages} messages "
                    f"({self.outbox.bytes} bytes) are kept here until all groups have settled them, as many "
                    "as may (outbox_messages_max, outbox_bytes_max); try again later"
                )
            for each in self._topics.values():
                self._settling.ask(each)
            await self._settling.some(min(left_s, self._options.deadline_s / 5))
        return until_s

    def _overdue(self, topic: KnownTopic, call: Awaited) -> None:
        if call.item.number not in topic.parking.tickets:  # who waits for room has a longer time
            late = f"no answer for {call.item.event_id} within {self._options.deadline_s:g} s"
            self.awaited_failed(
                call, UncertainError(f"{topic.name}: {late}; it may have been taken"), sent=True
            )

    def taken(self, item: Outgoing, keys: str) -> None:
        """Accepted, as most are; a duplicate too was acknowledged to its publisher, and may not be lost."""
        topic = self._topics[item.topic]
        self.server_full = False
        if not item.urgent:
            topic.heard_room()
            if topic.parking.breaker.failures:
                topic.parking.breaker.succeeded()
        if not topic.sheddable:
            self.outbox.taken(item, keys)

    def awaited_answered(self, call: Awaited, published: Published) -> None:
        topic = self._topics[call.item.topic]
        if published.what == "wait":
            topic.heard_full((), self._now_s() + self._options.retry_s)
            self._park(topic, call)
            return
        call.settle(self._answer(topic, call.item, published))

    def awaited_failed(self, call: Awaited, error: BusError, sent: bool) -> None:
        if not call.answer.done():
            self.turned.failed(call.item, error)
        call.settle(error)

    def _answer(self, topic: KnownTopic, item: Outgoing, published: Published) -> Receipt | BusError:
        outcome = OUTCOMES.get(published.what)
        if outcome is None:
            return self._refused(topic, item, published)
        if keys := published.keys:
            self.taken(item, keys)
        return Receipt(item.event_id, outcome)

    def _refused(self, topic: KnownTopic, item: Outgoing, published: Published) -> BusError:
        if published.what == "full":
            topic.heard_full(published.full, self._now_s() + self._options.retry_s)
        elif published.what == "no_memory":
            self._no_memory(item)
        return refusal(topic, item, published, self._conservative)

    # Parked

    def _park(self, topic: KnownTopic, call: Awaited) -> None:
        if call.answer.done():
            return
        try:
            ticket = topic.parking.park(call.item, self._now_s(), call.settle)
        except RefusedError as error:
            self.turned.add(call.item, "refused")
            call.settle(error)
            return
        call.answer.add_done_callback(lambda _: topic.parking.unpark(ticket))

    def _retry(self, topic: KnownTopic) -> None:
        """Offer the messages of those who wait, in order, until one finds no room."""
        if topic.retries or not self._link.up:
            return
        tickets = list(topic.parking.tickets.values())[:_RETRIES_MAX]
        topic.retries = len(tickets)
        for ticket in tickets:
            assert isinstance(ticket.publication, Outgoing)
            self._link.submit(Parked(self, ticket.publication, ticket.publication.size, ticket))

    def parked_wanted(self, call: Parked) -> bool:
        topic = self._topics[call.item.topic]
        there = call.item.number in topic.parking.tickets
        if not there:
            topic.retries -= 1
        return there

    def parked_answered(self, call: Parked, published: Published) -> None:
        topic = self._topics[call.item.topic]
        topic.retries -= 1
        if published.what != "wait":
            self._unpark(topic, call.ticket, self._answer(topic, call.item, published))
            if not topic.retries:
                self._retry(topic)

    def parked_failed(self, call: Parked, error: BusError, sent: bool) -> None:
        topic = self._topics[call.item.topic]
        topic.retries = max(0, topic.retries - 1)
        if call.item.number in topic.parking.tickets:
            self.turned.failed(call.item, error)
        self._unpark(topic, call.ticket, error)

    def _unpark(self, topic: KnownTopic, ticket: Ticket, answer: Receipt | BusError) -> None:
        topic.parking.unpark(ticket)
        ticket.answer(answer)

    def _send_away(self, what: str, error: Callable[[Outgoing], BusError]) -> None:
        """Nobody waits for room any longer, but those whose message is being offered just now."""
        for topic in self._topics.values():
            for ticket in list(topic.parking.tickets.values())[topic.retries :]:
                item = ticket.publication
                assert isinstance(item, Outgoing)
                self.turned.add(item, what)
                self._unpark(topic, ticket, error(item))

    # Queued

    def publish_nowait(self, item: Outgoing) -> Receipt:
        """Raises RefusedError."""
        topic = self._topics[item.topic]
        self._refuse_at_once(topic, item)
        try:
            dropped = self.outbox.put(item)
        except OutboxFullError:
            self.turned.add(item, "refused")
            raise
        self.lost += len(dropped)
        for each in dropped:
            self.turned.add(each, "refused")
        self._push(topic)
        return Receipt(item.event_id, Outcome.QUEUED)

    def _refuse_at_once(self, topic: KnownTopic, item: Outgoing) -> None:
        """What the server would turn away, by all that is known here, never gets into the outbox."""
        now_s = self._now_s()
        if item.urgent:
            if full := topic.known_full("urgent", now_s):
                self.turned.add(item, "refused")
                raise texts.urgent_full(topic.name, item.event_id, full)
            return
        if self._conservative.active:
            self.turned.add(item, "shed")
            raise self._conservative.refusal(f"{topic.name} can't take {item.event_id}")
        if topic.sheddable or topic.policy.overflow is Overflow.REROUTE:
            return
        full = topic.known_full("normal", now_s)
        queued = self.outbox.queued_of(topic.name, urgent=False)
        if topic.parking.tickets:
            full.append(f"{len(topic.parking.tickets)} publishers wait for room")
        elif queued >= topic.policy.capacity and not full:
            full.append(f"{queued} messages for it are on their way, as many as a group holds (capacity)")
        if full:
            self.turned.add(item, "refused")
            raise texts.normal_full(topic.name, item.event_id, full, topic.policy.overflow)

    def _push(self, topic: KnownTopic) -> None:
        """Send what is ready."""
        if not self._link.up:
            return
        for urgent in (True, False):
            if urgent or not self._conservative.active:
                round_ = self.outbox.line(topic.name, urgent).round
                for item in self.outbox.ready(topic.name, urgent):
                    self._link.submit(Queued(self, item, item.size, round_))

    def queued_wanted(self, call: Queued) -> bool:
        return call.round == self.outbox.line_of(call.item).round

    def queued_unsent(self, item: Outgoing) -> None:
        self.outbox.unsent(item)

    def queued_answered(self, item: Outgoing, published: Published) -> None:
        topic = self._topics[item.topic]
        what = published.what
        if what in OUTCOMES:
            self.server_full = False
            self.outbox.taken(item, published.keys)
            if what in TAKEN and not item.urgent:
                topic.heard_room()
            self._push(topic)
            return
        if what == "no_memory":
            self._no_memory(item)
        if topic.sheddable:
            self.lost += 1
            self.outbox.done(item)
            return
        if what in ("full", "wait"):
            topic.heard_full(published.full, self._now_s() + self._options.retry_s)
        self.outbox.refused(item)

    # Given to a new server

    def again(self) -> list[Call]:
        """What a server that may have lost its data has to be given once more."""
        retained = self.outbox.all_retained()
        for item in retained:
            item.keys = ""  # entries of before mean nothing now
        return [Again(self, item, item.size) for item in retained]

    def again_answered(self, item: Outgoing, published: Published) -> None:
        if published.keys:
            item.keys = published.keys
        elif published.what in ("wait", "full", "shed", "no_memory"):
            self.outbox.owed(item)
        elif published.what == "unrouted":
            self.outbox.done(item)

    # Signed anew

    def wanted_anew(self, name: str) -> None:
        """Somebody can't take what was signed too long ago."""
        if name in self._topics:
            self._anew.want(name, self._now_s())

    # What time and the server do

    def room(self, name: str) -> None:
        """Room came free in a topic."""
        if (topic := self._topics.get(name)) is not None:
            topic.heard_room()
            self._push(topic)
            self._retry(topic)

    def on_up(self) -> None:
        for topic in self._topics.values():
            topic.retries = 0
            self._push(topic)

    def on_down(self) -> None:
        """Nobody waits for room in what can't be reached."""
        for topic in self._topics.values():
            topic.retries = 0
        self._send_away(
            "refused",
            lambda item: UnreachableError(
                f"{item.topic} had no room for {item.event_id}, and now it can't be reached; try again later"
            ),
        )

    def on_conservative(self) -> None:
        what = "{0.topic} can't take {0.event_id}"
        self._send_away("shed", lambda item: self._conservative.refusal(what.format(item)))

    def close(self) -> None:
        """Refuse those who wait."""
        for topic in self._topics.values():
            topic.retries = 0
        self._send_away("refused", lambda _: ClosedError(texts.BUS_CLOSED))

    def give_up_queued(self) -> None:
        """Nobody will send what still lies here: count it as lost."""
        self.lost += self.outbox.queued

    def tick(self) -> None:
        """Refuse those who waited too long, and try again for the others."""
        now_s = self._now_s()
        for item in self.outbox.expired(now_s):
            self.lost += 1
            self.turned.add(item, "refused")
        self._anew.go_on(now_s)
        again = now_s >= self._retry_at_s
        if again:
            self._retry_at_s = now_s + self._options.retry_s
        for topic in self._topics.values():
            self._send_overdue_away(topic, now_s)
            self._retry(topic)
            if again or topic.policy.overflow is Overflow.WAIT:
                self._push(topic)
            self._settling.ask(topic)

    def _send_overdue_away(self, topic: KnownTopic, now_s: float) -> None:
        while not topic.retries and (ticket := topic.parking.first_overdue(now_s)) is not None:
            item = ticket.publication
            assert isinstance(item, Outgoing)
            self.turned.add(item, "refused")
            ticket.answer(texts.wait_expired(topic.name, item.event_id, topic.policy.wait_max_s))

    def _no_memory(self, item: Outgoing) -> None:
        self.server_full = True
        self.turned.add(item, "refused")
