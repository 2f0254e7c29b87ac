"""Minutes of a busy bus in virtual time: publishers give up, consumers fail, hang, leave and come back."""

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest

from actors.oona.bus import Outcome, Subscription
from actors.oona.errors import RefusedError
from actors.oona.memory import MemoryBus
from actors.oona.policy import BusConfig, ConservativePolicy, Overflow, TopicPolicy
from actors.oona.priority import Priority
from actors.runtime.clock import LoopClock
from actors.runtime.simulation import run_simulated
from tests.actors.oona.rig import Note

GROUPS = ("g", "h")
CONFIG = BusConfig(conservative=ConservativePolicy(high_mark=30, low_mark=10, dwell_s=1))


class HandlerError(Exception):
    """A consumer failed."""


class Life:
    """One topic under random traffic; remembers what publishers and consumers saw, by event id."""

    def __init__(self, overflow: Overflow, seed: int) -> None:
        policy = TopicPolicy(
            groups=GROUPS, capacity=12, urgent_capacity=12, reroute_capacity=4, overflow=overflow,
            parked_max=4, wait_max_s=1.0, ack_deadline_s=2.0, attempts_max=3, ttl_s=20.0, stall_after_s=None,
        )  # fmt: skip
        self.random = random.Random(seed)
        self.clock = LoopClock(asyncio.get_running_loop(), wall_ns=0)
        self.bus = MemoryBus({"t": policy}, self.clock, CONFIG)
        self.taken: list[str] = []
        self.refused: list[str] = []
        self.acked: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        housekeeping = asyncio.create_task(self.bus.run_housekeeping())
        consumers = [asyncio.create_task(self.consume(g, f"{g}{n}")) for g in GROUPS for n in range(2)]
        publishers = [asyncio.create_task(self.publish(n)) for n in range(4)]
        await asyncio.wait(publishers)
        await self.clock.sleep(60)
        for task in consumers:
            task.cancel()
        await asyncio.wait(consumers)
        await self.bus.close()
        await housekeeping

    async def publish(self, publisher: int) -> None:
        for n in range(150):
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
        assert metrics.depth == 0, "in a quiet minute everything is settled"
        letters = await self.bus.dead_letters.list()
        for group in GROUPS:
            rows = [row.ledger for row in metrics.groups if row.group == group]
            acked = {event_id for where, event_id in self.acked if where == group}
            dead = {letter.event_id for letter in letters if letter.group == group}
            lost = set(self.taken) - acked - dead
            unanswered = (acked | dead) - set(self.taken)  # cancelled after the hand-over
            assert not acked & dead
            assert not (acked | dead) & set(self.refused)
            assert len(dead) == sum(row.dead_lettered for row in rows)
            assert len(acked) == sum(row.acked for row in rows)
            shed = sum(row.dropped + row.expired for row in rows)
            assert (
                len(lost) <= shed <= len(lost) + 600 - len(self.taken) - len(self.refused) - len(unanswered)
            )
            assert all(row.pending_max <= 12 for row in rows)


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("seed", range(5))
def test_every_message_is_accounted_for_by_its_id(overflow: Overflow, seed: int) -> None:
    async def main() -> dict[tuple[str, str], int]:
        life = Life(overflow, seed)
        await life.run()
        await life.check()
        return dict(life.acked)

    print(f"seed {seed}")
    assert run_simulated(main, seed=seed) == run_simulated(main, seed=seed)
