"""A bus under test with a clock that the test moves, and a player for tests written as coroutines."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Protocol, TypeVar

import msgspec

from actors.oona.bus import Bus, Delivery, Receipt, Subscription
from actors.oona.ledger import GroupLedger, TopicLedger
from actors.oona.metrics import BusMetrics
from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.priority import Lane

S = TypeVar("S")
DEFAULTS = BusConfig()
ROUNDS = 20  # turns of the event loop in which everything that can go on does


class Note(msgspec.Struct, frozen=True):
    """The message of these tests."""

    n: int


Settle = Callable[[], Awaitable[None]]


class HandClock:
    """Stands still until `advance`; sleepers wake at their own moments, in order."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._numbers = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return int(self.now_s * 1e9)

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            self.now_s, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await settle(2)
        self.now_s = end_s
        await settle()


class Rig:
    """One bus, with its housekeeping running."""

    def __init__(self, bus: Bus, advance: Callable[[float], Awaitable[None]], settle: Settle) -> None:
        self.bus = bus
        self._advance = advance
        self._settle = settle

    async def settle(self) -> None:
        """Let everything that can go on do so."""
        await self._settle()

    async def start(self, publishing: Coroutine[None, None, Receipt]) -> asyncio.Task[Receipt]:
        """Let a publisher go as far as it comes."""
        task = asyncio.create_task(publishing)
        await self._settle()
        return task

    async def let_pass(self, seconds: float) -> None:
        """Time goes by for the bus."""
        await self._advance(seconds)

    async def drain(self, subscription: Subscription) -> list[Delivery]:
        """Everything that is there now, in the consumer's hands then."""
        taken: list[Delivery] = []
        while deliveries := await subscription.receive(10_000, wait_s=0):
            taken += deliveries
        return taken

    async def ack_all(self, subscription: Subscription) -> list[int]:
        """Take and acknowledge everything that is there; the numbers of the notes."""
        deliveries = await self.drain(subscription)
        for delivery in deliveries:
            delivery.ack()
        return notes(deliveries)

    async def publish(self, topic: str, numbers: Sequence[int]) -> None:
        for n in numbers:
            await self.bus.publish(topic, Note(n))

    async def metrics(self) -> BusMetrics:
        """As the back end has them, once all that was said to it has reached it."""
        await self._settle()
        return await self.bus.refresh()

    async def ledger(self, group: str, lane: Lane = Lane.NORMAL, topic: str = "t") -> GroupLedger:
        rows = (await self.metrics()).groups
        (row,) = [row for row in rows if (row.topic, row.group, row.lane) == (topic, group, lane)]
        return row.ledger

    async def published(self, lane: Lane = Lane.NORMAL, topic: str = "t") -> TopicLedger:
        rows = (await self.metrics()).published
        (row,) = [row for row in rows if (row.topic, row.lane) == (topic, lane)]
        return row.ledger


class MakeBus(Protocol):
    """A back end: a rig around a new bus with these topics, closed at the end, its ledger checked."""

    def __call__(
        self, topics: Mapping[str, TopicPolicy], config: BusConfig = DEFAULTS
    ) -> AbstractAsyncContextManager[Rig]: ...


Play = Callable[[Callable[[], Coroutine[None, None, None]]], None]


def on_a_new_loop(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """Play a scenario on asyncio's own loop."""
    asyncio.run(scenario())


def with_topic(
    policy: TopicPolicy, config: BusConfig = DEFAULTS
) -> Callable[[Callable[[S, Rig], Coroutine[None, None, None]]], Callable[[S, MakeBus, Play], None]]:
    """Run a test method on a bus with the one topic `t`."""

    def wrap(
        test: Callable[[S, Rig], Coroutine[None, None, None]],
    ) -> Callable[[S, MakeBus, Play], None]:
        def run(self: S, make_bus: MakeBus, play: Play) -> None:
            async def scenario() -> None:
                async with make_bus({"t": policy}, config) as rig:
                    await test(self, rig)

            play(scenario)

        run.__name__ = test.__name__
        return run

    return wrap


async def settle(rounds: int = ROUNDS) -> None:
    """Let everything that can go on do so."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def notes(deliveries: Sequence[Delivery]) -> list[int]:
    """The numbers of the notes, in order."""
    return [delivery.message.n for delivery in deliveries if isinstance(delivery.message, Note)]
