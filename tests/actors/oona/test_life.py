"""Minutes of a busy bus: publishers give up, consumers fail, hang, leave and come back.

In virtual time, which on Redis stands still while something is on its way to the server or back: no machine
is too slow for this life.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import pytest

from actors.oona.bus import Bus, DeadLetter, Outcome, Subscription
from actors.oona.errors import RefusedError
from actors.oona.memory import MemoryBus
from actors.oona.policy import BusConfig, ConservativePolicy, Overflow, TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.bus import RedisBus
from actors.runtime.clock import Clock, LoopClock
from actors.runtime.simulation import run_simulated
from tests.actors.oona.note_frames import NoteFrames
from tests.actors.oona.patience import PATIENT
from tests.actors.oona.redis_rig import until
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import HandClock, Note

GROUPS = ("g", "h")
PUBLISHERS = 4
CONFIG = BusConfig(conservative=ConservativePolicy(high_mark=30, low_mark=10, dwell_s=1))


class HandlerError(Exception):
    """A consumer failed."""


def topic(overflow: Overflow) -> dict[str, TopicPolicy]:
    return {
        "t": TopicPolicy(
            groups=GROUPS, capacity=12, urgent_capacity=12, reroute_capacity=4, overflow=overflow,
            parked_max=4, wait_max_s=1.0, ack_deadline_s=2.0, attempts_max=3, ttl_s=20.0, stall_after_s=None,
        )
    }  # fmt: skip


class Life:
    """One topic under random traffic; remembers what publishers and consumers saw, by event id."""

    def __init__(self, bus: Bus, clock: Clock, seed: int, count: int = 150) -> None:
        """`count` messages of each publisher."""
        self.count = count
        self.random = random.Random(seed)
        self.clock = clock
        self.bus = bus
        self.letters: Sequence[DeadLetter] = ()
        self.taken: list[str] = []
        self.refused: list[str] = []
        self.acked: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        housekeeping = asyncio.create_task(self.bus.run_housekeeping())
        consumers = [asyncio.create_task(self.consume(g, f"{g}{n}")) for g in GROUPS for n in range(2)]
        publishers = [asyncio.create_task(self.publish(n)) for n in range(PUBLISHERS)]
        await asyncio.wait(publishers)
        await self.clock.sleep(60)
        for task in consumers:
            task.cancel()
        await asyncio.wait(consumers)
        self.letters = await self.bus.dead_letters.list()
        await self.bus.close()
        await housekeeping

    async def publish(self, publisher: int) -> None:
        for n in range(self.count):
            event_id = f"{publisher}.{n}"
            priority = self.random.choice([*Priority, *[Priority.NORMAL] * 20])
            one = asyncio.create_task(self.bus.publish("t", Note(n), priority=priority, event_id=event_id))
            await self.clock.sleep(self.random.choice([0.0, 0.0, 0.1, 0.5]))
            if self.random.random() < 0.1:
                one.cancel()
            await asyncio.wait([one])
            if not one.cancelled() and one.exception() is None:
                assert one.result().outcome in (Outcome.ACCEPTED, Outcome.REROUTED)
                self.taken.append(event_id)
            elif not one.cancelled():
                assert isinstance(one.exception(), RefusedError)
                self.refused.append(event_id)

    async def consume(self, group: str, name: str) -> None:
        while True:
            async with self.bus.subscribe("t", group, name) as subscription:
                with suppress(HandlerError):
                    while True:
                        await self.handle(group, subscription)

    async def handle(self, group: str, subscription: Subscription) -> None:
        for delivery in await subscription.receive(self.random.randint(1, 4)):
            luck = self.random.random()
            if luck < 0.03:
                continue  # forgotten: its deadline will pass
            with delivery:
                await self.clock.sleep(self.random.choice([0.0, 0.01, 0.1]))
                if luck < 0.15:
                    raise HandlerError(delivery.event_id)
            self.acked[group, delivery.event_id] += 1

    async def check(self) -> None:
        metrics = self.bus.metrics()
        assert metrics.closes()
        assert len(self.taken) > 100, "it was a busy life"
        assert metrics.depth == 0, "in a quiet minute everything is settled"
        for group in GROUPS:
            rows = [row.ledger for row in metrics.groups if row.group == group]
            acked = {event_id for where, event_id in self.acked if where == group}
            dead = {letter.event_id for letter in self.letters if letter.group == group}
            lost = set(self.taken) - acked - dead
            unanswered = (acked | dead) - set(self.taken)  # cancelled after the hand-over
            assert not acked & dead
            assert not (acked | dead) & set(self.refused)
            assert len(dead) == sum(row.dead_lettered for row in rows)
            assert len(acked) == sum(row.acked for row in rows)
            shed = sum(row.dropped + row.expired for row in rows)
            unknown = PUBLISHERS * self.count - len(self.taken) - len(self.refused) - len(unanswered)
            assert len(lost) <= shed <= len(lost) + unknown
            assert all(row.pending_max <= 12 for row in rows)


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 10))]
)
def test_every_message_is_accounted_for_by_its_id(overflow: Overflow, seed: int) -> None:
    async def main() -> dict[tuple[str, str], int]:
        clock = LoopClock(asyncio.get_running_loop(), wall_ns=0)
        life = Life(MemoryBus(topic(overflow), clock, CONFIG), clock, seed)
        await life.run()
        await life.check()
        return dict(life.acked)

    print(f"seed {seed}")
    assert run_simulated(main, seed=seed) == run_simulated(main, seed=seed)


STEP_S = 0.2
"""Seconds of this life that pass at a time."""


@pytest.mark.parametrize("overflow", Overflow)
def test_every_message_is_accounted_for_on_redis_too(overflow: Overflow, redis_server: RedisServer) -> None:
    async def main() -> None:
        clock = HandClock()
        options = msgspec.structs.replace(PATIENT, own_clock=True)
        name = f"life {overflow.value}"
        bus = await RedisBus.open(
            redis_server.address, name, topic(overflow), clock, NoteFrames(), CONFIG, options
        )
        life = Life(bus, clock, seed=1, count=60)
        lived = asyncio.create_task(life.run())
        while not lived.done():
            await until(lambda: bus.link.idle or bus.link.closed or lived.done())
            await clock.advance(STEP_S)
        await lived
        await life.check()

    asyncio.run(main())
