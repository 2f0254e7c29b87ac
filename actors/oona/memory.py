"""The memory back end: the exchange's bookkeeping, made awaitable."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import msgspec

from actors.oona import texts
from actors.oona.bus import DeadLetter, Past, Receipt
from actors.oona.entry import Publication
from actors.oona.errors import BusError, ClosedError
from actors.oona.exchange import Exchange
from actors.oona.metrics import BusMetrics
from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.priority import Priority
from actors.oona.subscription import MemorySubscription
from actors.runtime.clock import Clock


class MemoryBus:
    """Implements `Bus` inside one process and one event loop; messages are passed by reference.

    `new_id` gives each message an event id that did not bring one (None: `m1`, `m2`, ...).
    """

    def __init__(
        self,
        topics: Mapping[str, TopicPolicy],
        clock: Clock,
        config: BusConfig | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        numbers = count(1)
        self._clock = clock
        self._config = BusConfig() if config is None else config
        self._exchange = Exchange(topics, self._config, new_id or (lambda: f"m{next(numbers)}"))
        self._subscriptions: list[MemorySubscription] = []
        self._since_yield = 0
        self._closed = False
        self.dead_letters = MemoryDeadLetters(self._exchange, clock)

    async def publish(
        self,
        topic: str,
        message: msgspec.Struct,
        *,
        priority: Priority = Priority.NORMAL,
        event_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Receipt:
        self._since_yield += 1
        if self._since_yield >= self._config.slice_messages:
            self._since_yield = 0
            await asyncio.sleep(0)
        if self._closed:
            raise ClosedError(texts.BUS_CLOSED)
        now_s = self._clock.monotonic()
        publication = self._exchange.publication(topic, message, priority, event_id, ttl_s, now_s)
        outcome = self._exchange.offer(publication, now_s)
        if outcome is None:
            return await self._wait_for_room(publication, now_s)
        return Receipt(publication.event_id, outcome)

    def publish_nowait(
        self,
        topic: str,
        message: msgspec.Struct,
        *,
        priority: Priority = Priority.NORMAL,
        event_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Receipt:
        if self._closed:
            raise ClosedError(texts.BUS_CLOSED)
        now_s = self._clock.monotonic()
        publication = self._exchange.publication(topic, message, priority, event_id, ttl_s, now_s)
        outcome = self._exchange.offer(publication, now_s)
        if outcome is None:
            raise self._exchange.topic(topic).full_error(publication)
        return Receipt(publication.event_id, outcome)

    def subscribe(
        self, topics: str | Sequence[str], group: str, consumer: str, lossy: bool = False
    ) -> MemorySubscription:
        if self._closed:
            raise ClosedError(texts.BUS_CLOSED)
        names = [topics] if isinstance(topics, str) else list(topics)
        membership = self._exchange.subscribe(names, group, consumer, lossy, self._clock.monotonic())
        subscription = MemorySubscription(membership, self._clock, self._config.slice_messages)
        self._subscriptions = [each for each in self._subscriptions if not each.closed]
        self._subscriptions.append(subscription)
        return subscription

    async def flush(self) -> None:
        """At once: what was handed over was answered then."""

    async def history(self, topic: str) -> list[Past]:
        return self._exchange.topic(topic).history()

    def metrics(self) -> BusMetrics:
        return self._exchange.metrics(self._clock.monotonic())

    async def refresh(self) -> BusMetrics:
        return self.metrics()

    @property
    def tick_s(self) -> float:
        return self._config.tick_s

    async def keep_house(self) -> None:
        while not self._closed and self._exchange.tick(self._clock.monotonic()):
            await self._clock.sleep(self._config.tick_breath_s)

    async def run_housekeeping(self) -> None:
        while not self._closed:
            await self.keep_house()
            await self._clock.sleep(self.tick_s)

    async def close(self) -> None:
        self._closed = True
        self._exchange.close(ClosedError(texts.BUS_CLOSED))
        for subscription in self._subscriptions:
            subscription.end(texts.BUS_CLOSED)

    async def _wait_for_room(self, publication: Publication, now_s: float) -> Receipt:
        topic = self._exchange.topic(publication.topic)
        room: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

        def answer(result: Receipt | BusError) -> None:
            if room.done():
                return
            if isinstance(result, BusError):
                room.set_exception(result)
            else:
                room.set_result(result)

        ticket = topic.park(publication, now_s, answer)
        self._since_yield = 0
        try:
            return await room
        finally:
            topic.parking.unpark(ticket)


class MemoryDeadLetters:
    """Implements `DeadLetters`."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock

    async def list(self, topic: str | None = None, group: str | None = None) -> Sequence[DeadLetter]:
        return self._exchange.letters(topic, group)

    async def inspect(self, letter_id: str) -> DeadLetter:
        return self._exchange.letter(letter_id)

    async def replay(self, letter_id: str) -> None:
        self._exchange.replay(letter_id, self._clock.monotonic())

    async def drop(self, letter_id: str) -> None:
        self._exchange.drop(letter_id)
