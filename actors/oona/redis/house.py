"""Housekeeping of the bus on Redis: rounds on the server, signs of life, a look at its books now and then."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from actors.oona.errors import ClosedError, RefusedError
from actors.oona.policy import BusConfig
from actors.oona.redis.call import Ask, Order
from actors.oona.redis.clock import ServerClock
from actors.oona.redis.link import Link
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.post import Post
from actors.oona.redis.subscription import RedisSubscription
from actors.oona.redis.wire import TopicStats, decoder
from actors.runtime.clock import Clock

_STATS: Final = decoder(list[TopicStats])
_MOVED: Final = decoder(tuple[int, bool, int])
_COUNT: Final = decoder(int)
_THERE: Final = decoder(list[bool])


class House:
    """`subscriptions` are all that were made here; `stats` is what the server's books last said. `turned_out`
    is told how many entries came in past the bus."""

    def __init__(
        self,
        link: Link,
        clock: Clock,
        post: Post,
        topics: list[str],
        config: BusConfig,
        options: RedisOptions,
        turned_out: Callable[[int], None],
    ) -> None:
        self.subscriptions: list[RedisSubscription] = []
        self.stats: list[TopicStats] = []
        self._link = link
        self._clock = clock
        self._post = post
        self._topics = topics
        self._config = config
        self._options = options
        self._turned_out = turned_out
        self._due: dict[str, float] = {}
        self._first_topic = 0

    async def keep(self) -> None:
        """One round, or as many as it takes until no work is left over."""
        for subscription in self.subscriptions:
            subscription.lapse(self._clock.monotonic())
        self._post.tick()
        if not self._link.up:
            return
        self.send_counts()
        with suppress(RefusedError, ClosedError):
            while await self._tick() and not self._link.closed:
                await self._clock.sleep(self._config.tick_breath_s)

    def send_counts(self) -> None:
        """What was turned away here goes into the server's books."""
        for call in self._post.turned.orders():
            self._link.submit(call)

    async def ask_stats(self) -> None:
        """Raises RefusedError, ClosedError."""
        ask = Ask(("stats", self._topics), _STATS)
        self._link.submit(ask)
        self.stats, _ = await ask.answer

    async def _tick(self) -> bool:
        """One round on the server; True if work was left over."""
        names = self._topics
        first = self._first_topic % max(1, len(names))
        self._first_topic += 1
        tick = Ask(("tick", names[first:] + names[:first], self._config.tick_work_max), _MOVED)
        asked_s = self._clock.monotonic()
        self._link.submit(tick)
        if self._is_due("beat", self._options.beat_s):
            self._beat()
        if self._is_due("reclaim", self._options.reclaim_s):
            self._link.submit(Order(("reclaim", names)))
        if self._is_due("strange", self._options.strange_s):
            self._turn_out()
        (_, more, server_ms), _ = await tick.answer
        if isinstance(self._clock, ServerClock):
            self._clock.check(server_ms / 1e3, self._clock.monotonic() - asked_s)
        if self._is_due("stats", self._options.stats_s):
            await self.ask_stats()
        return more

    def _turn_out(self) -> None:
        """A look for what came in past the bus."""
        ask = Ask(("strange", self._topics), _COUNT)

        def answered(answer: "asyncio.Future[tuple[int, list[bytes]]]") -> None:
            if not answer.cancelled() and answer.exception() is None:
                self._turned_out(answer.result()[0])

        ask.answer.add_done_callback(answered)
        self._link.submit(ask)

    def _is_due(self, what: str, every_s: float) -> bool:
        now_s = self._clock.monotonic()
        due = now_s >= self._due.get(what, 0.0)
        if due:
            self._due[what] = now_s + every_s
        return due

    def _beat(self) -> None:
        """A sign of life of each consumer; one that the server has given up joins again."""
        beating = [(each, topic) for each in self.subscriptions if not each.closed for topic in each.topics]
        if not beating:
            return
        members = [[topic, each.group, each.consumer] for each, topic in beating]
        ask = Ask(("beat", members), _THERE)

        def answered(answer: "asyncio.Future[tuple[list[bool], list[bytes]]]") -> None:
            if answer.cancelled() or answer.exception() is not None:
                return
            gone = {each for (each, _), there in zip(beating, answer.result()[0], strict=True) if not there}
            for subscription in gone:
                if not subscription.closed:
                    subscription.join()

        ask.answer.add_done_callback(answered)
        self._link.submit(ask)
