"""A consumer's end of the bus on Redis: asks for messages, hands them out, passes on what is said of them."""

import asyncio
from collections import deque
from typing import Final

from actors.oona import texts
from actors.oona.errors import BusError, ClosedError
from actors.oona.policy import BusConfig
from actors.oona.priority import Lane
from actors.oona.receiving import Loop
from actors.oona.redis.call import Call, Order
from actors.oona.redis.delivery import RedisDelivery, delivery_of
from actors.oona.redis.inbox import Inbox, Unreadable, frame_at
from actors.oona.redis.settled import DONE, TWIN
from actors.oona.redis.taking import TAKE_MAX, Acks, Join, Take
from actors.oona.redis.wire import Given, Refusal, Taken
from actors.oona.seen import SeenIds
from esper.breaker import Breaker

_NORMAL: Final = Lane.NORMAL.value
_FAILED_IDS_MAX: Final = 1_000
"""Event ids remembered as having failed here, for the breaker."""


class RedisSubscription(Loop[RedisDelivery]):
    """Implements `Subscription`. It joins with the next round trip; if it is refused, `receive` says so."""

    def __init__(
        self, inbox: Inbox, topics: list[str], group: str, consumer: str, lossy: bool, config: BusConfig
    ) -> None:
        self.topics = topics
        self.group = group
        self.consumer = consumer
        self.lossy = lossy
        self._records = lossy or group in inbox.options.recorders
        self.breaker = Breaker(config.breaker.failures_max, config.breaker.open_s)
        self._inbox = inbox
        self._settled = inbox.settled(group, self._records)
        self._slice_messages = config.slice_messages
        self._joined: set[str] = set()
        self._perhaps_joined = set(topics)
        self._buffer: deque[RedisDelivery] = deque()  # came, and was not received yet
        self._twins: list[RedisDelivery] = []  # came while the same message was in hand
        self._hands: dict[tuple[str, str], RedisDelivery] = {}  # received, by topic and key
        self._failed = SeenIds(_FAILED_IDS_MAX)
        self._waiting: list[asyncio.Future[None]] = []
        self._taking: Take | None = None
        self._take_max = TAKE_MAX
        self._acks: dict[str, Acks] = {}  # by topic: those that still wait to be sent
        self._rang = False
        self._strange = False  # the server did not know this consumer when it was asked last
        self._wanted = 0  # messages that those who wait would take
        self._since_wait = 0
        self._closed: BusError | ValueError | None = None
        self.join()

    @property
    def closed(self) -> bool:
        return self._closed is not None

    # Receiving

    async def receive(self, max_messages: int = 1, wait_s: float | None = None) -> list[RedisDelivery]:
        if max_messages < 1:
            raise texts.receives_nothing(max_messages)
        if self._since_wait >= self._slice_messages:
            self._since_wait = 0
            await asyncio.sleep(0)
        deliveries = self._hand_out(max_messages)
        if deliveries:
            return deliveries
        if wait_s is None:
            return await self._first(max_messages, None)
        if wait_s <= 0:
            return await self._there_now(max_messages)
        timer = asyncio.create_task(self._inbox.clock.sleep(wait_s), name="the wait of a receive")
        timer.add_done_callback(lambda _: self._wake())
        try:
            return await self._first(max_messages, timer)
        finally:
            timer.cancel()

    async def _there_now(self, max_messages: int) -> list[RedisDelivery]:
        """What a question asked now brings; nothing if the server can't be asked."""
        if self._taking is not None:
            await asyncio.wait({self._taking.done})
            if deliveries := self._hand_out(max_messages):
                return deliveries
        await asyncio.wait({self._take(max_messages, hasty=False).done})
        return self._hand_out(max_messages)

    async def _first(self, max_messages: int, timer: asyncio.Task[None] | None) -> list[RedisDelivery]:
        """What comes first; nothing if the timer is done before."""
        deliveries: list[RedisDelivery] = []
        while not (deliveries or (timer is not None and timer.done())):
            self._since_wait = 0
            self._wanted = max(self._wanted, max_messages)
            self._take(max_messages)
            await self._wait()
            deliveries = self._hand_out(max_messages)
        return deliveries

    def _hand_out(self, max_messages: int) -> list[RedisDelivery]:
        """At most `max_messages` of what came and is still good."""
        if self._closed is not None:
            raise self._closed
        if self._twins:
            self._buffer.extend(self._twins)
            self._twins.clear()
        if not self._buffer:
            return []
        settled, now_s = self._settled, self._inbox.clock.monotonic()
        deliveries: list[RedisDelivery] = []
        done: dict[str, None] = {}
        buffer, hands = self._buffer, self._hands
        while buffer and len(deliveries) < max_messages:
            delivery = buffer.popleft()
            if delivery.due_s <= now_s:
                self._withdraw(delivery)
            elif (claim := settled.take(delivery, now_s)) is DONE:
                self._withdraw(delivery)
                self._say_done(delivery.topic, delivery.key, delivery.attempt)
                done[delivery.topic] = None
            elif claim is TWIN:
                self._twins.append(delivery)
            else:
                hands[delivery.place] = delivery
                deliveries.append(delivery)
        for topic in done:
            self._inbox.link.submit(Order(("doubt", topic, self.group)))
        self._since_wait += len(deliveries)
        return deliveries

    def _withdraw(self, delivery: RedisDelivery) -> None:
        """Nobody tries it; if it was the breaker's probe, another may be made."""
        if not self.breaker.closed and delivery.lane is Lane.NORMAL:
            self.breaker.withdrawn()

    async def _wait(self) -> None:
        """Until there may be a message, or the end. Several may wait on one subscription; all are woken."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._wanted = 0
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # Taking

    def ring(self) -> None:
        """There may be something new."""
        if self._twins:
            self._wake()
        elif self._waiting and self._closed is None:
            if self._taking is not None:
                self._rang = True
            else:
                self._take(self._wanted)

    def _take(self, max_messages: int, hasty: bool = True) -> Take:
        if self._taking is not None:
            return self._taking
        self._rang = False
        take = self._taking = Take(self, min(max_messages, self._take_max), hasty)
        self._inbox.link.submit(take)
        return take

    def permitted(self, limit: int) -> int:
        """How many of the normal lane the breaker lets through."""
        return self.breaker.permits(self._inbox.clock.monotonic(), limit)

    def took(self, take: Take, told: Given | bool, blobs: list[bytes]) -> None:
        """What the server gave; False: it does not know this consumer (any longer)."""
        self._ended(take)
        if self._closed is None and isinstance(told, bool):
            self._rang = not self._strange  # once; then with the next ring or tick
            self._strange = True
            self.join()
        elif self._closed is None and not isinstance(told, bool):
            self._strange = False
            if len(told.entries) >= self._take_max:
                self._take_max = min(2 * self._take_max, TAKE_MAX)
            self._sort_in(told.entries, blobs)
            self._inbox.turned_out(told.strange)
            for each in told.misshapen:
                error = self._inbox.refuse_misshapen().error
                self._say("bury", each.topic, each.key, each.attempt, error)
        if self._buffer or self._closed is not None:
            self._wake()
        elif self._rang:
            self.ring()

    def took_nothing(self, take: Take) -> None:
        """The server can't be asked now; the bell rings when it can."""
        self._ended(take)

    def took_too_much(self, take: Take) -> None:
        """The answer never came through in time: the next one is to be smaller."""
        self._take_max = max(1, take.limit // 8)
        self.took_nothing(take)

    def _ended(self, take: Take) -> None:
        if self._taking is take:
            self._taking = None

    def _sort_in(self, entries: list[Taken], blobs: list[bytes]) -> None:
        inbox, records, buffer = self._inbox, self._records, self._buffer
        probing = not self.breaker.closed
        now_s = inbox.clock.monotonic()
        latencies = inbox.latencies(self.group)
        for taken in entries:
            if probing and taken.lane == _NORMAL:
                self.breaker.began()
            frame = frame_at(taken.envelope_ix, taken.signature_ix, blobs)
            message = inbox.read(taken, frame, records)
            if type(message) is Unreadable:
                self._turn_back(taken, message)
                continue
            if taken.attempt == 1:
                latencies[taken.topic, taken.lane].observe(now_s - taken.published_s)
            buffer.append(delivery_of(taken, message, self))

    def _turn_back(self, taken: Taken, message: Unreadable) -> None:
        """It was done before, it waits for a new signature, or it is a dead letter."""
        if taken.lane == _NORMAL:
            self.breaker.withdrawn()
        if self._settled.knows((taken.topic, taken.event_id), taken.published_s):
            self._say_done(taken.topic, taken.key, taken.attempt)
            return
        where = (taken.topic, taken.key, taken.attempt, message.error)
        if message.waits:
            self._say("await", *where, self._inbox.options.retry_s, taken.taken_ms)
        else:
            self._say("bury", *where)

    # What the consumer says

    def ack(self, delivery: RedisDelivery) -> None:
        self._settled.add(delivery.name, delivery.published_s)
        self._hands.pop(delivery.place, None)
        if self.breaker.failures:
            self.breaker.succeeded()
        self._say_done(delivery.topic, delivery.key, delivery.attempt)

    def nack(self, delivery: RedisDelivery, delay_s: float | None, error: str | None) -> None:
        texts.check_delay(delay_s, self._inbox.policies[delivery.topic])
        self._settled.let_go(delivery)
        if self._hands.pop(delivery.place, None) is delivery:
            if error is not None:
                self._fail(delivery)
            else:
                self.breaker.withdrawn()
        self._say("nack", delivery.topic, delivery.key, delivery.attempt, *map(_or_false, (delay_s, error)))

    def extend(self, delivery: RedisDelivery, deadline_s: float) -> None:
        texts.check_deadline(deadline_s, self._inbox.policies[delivery.topic])
        if self._hands.get(delivery.place) is delivery:
            delivery.due_s = self._inbox.clock.monotonic() + deadline_s
        self._say("extend", delivery.topic, delivery.key, delivery.attempt, deadline_s)

    def _say_done(self, topic: str, key: str, attempt: int) -> None:
        acks = self._acks.get(topic)
        if acks is None or acks.sealed:
            acks = Acks(topic, self.group)
            if self._inbox.link.up:
                self._acks[topic] = acks
            self._inbox.link.submit(acks)
        acks.add(key, attempt)

    def _say(self, what: str, topic: str, key: str, attempt: int, *more: str | float | bool) -> None:
        self._acks.clear()  # what is said later is not to overtake this
        self._inbox.link.submit(Order((what, topic, self.group, key, attempt, *more)))

    def lapse(self, now_s: float) -> None:
        """What was held too long has gone to others: that is a failure of this consumer."""
        for where, delivery in list(self._hands.items()):
            if delivery.due_s <= now_s:
                del self._hands[where]
                self._settled.let_go(delivery)
                self._fail(delivery)

    def _fail(self, delivery: RedisDelivery) -> None:
        """Count a failure, but once for a message: one that keeps failing may be to blame itself."""
        name = f"{delivery.topic}/{delivery.event_id}"
        if name not in self._failed or not self.breaker.closed:
            self.breaker.failed(self._inbox.clock.monotonic())
        if name not in self._failed:
            self._failed.add(name)

    # Coming and going

    def join(self) -> None:
        for call in self.joins():
            self._inbox.link.submit(call)

    def joins(self) -> list[Call]:
        """What makes the server know this consumer."""
        return [Join(self, topic) for topic in self.topics]

    def join_answered(self, topic: str, answer: bool | Refusal) -> None:
        if isinstance(answer, bool):
            self._joined.add(topic)
            return
        if answer.what == "no_memory":
            return  # the next take finds that it is not there, and it joins again
        error = self._no_entry(topic, answer)
        self._perhaps_joined.discard(topic)
        self._leave()
        self._end(error)

    def _no_entry(self, topic: str, answer: Refusal) -> BusError | ValueError:
        there = answer.detail if isinstance(answer.detail, int) else 0
        match answer.what:
            case "taken":
                return texts.name_taken(self.consumer, self.group, topic)
            case "consumers_max":
                return texts.too_many_consumers(self.consumer, self.group, topic, there)
            case "groups_max":
                return texts.too_many_groups(self.group, topic, there)
            case _:
                why = f"{answer.what} {answer.detail}"
                return ClosedError(
                    f"consumer {self.consumer} can't join group {self.group} of {topic}: {why}"
                )

    def close(self) -> None:
        if self._closed is None:
            self._leave()
        self._end(texts.subscription_closed(self.consumer))

    def end(self, error: BusError) -> None:
        """Receive nothing more: the bus closes."""
        if self._closed is None:
            self._leave()
        self._end(error)

    def _leave(self) -> None:
        self._acks.clear()
        self._buffer.clear()
        self._twins.clear()
        for delivery in self._hands.values():
            self._settled.let_go(delivery)
        self._hands.clear()
        for topic in sorted(self._perhaps_joined):
            self._inbox.link.submit(Order(("leave", topic, self.group, self.consumer)))

    def _end(self, error: BusError | ValueError) -> None:
        self._closed = self._closed or error
        self._wake()


def _or_false(value: float | str | None) -> float | str | bool:
    """The script's way to say None."""
    return False if value is None else value
