"""A slow or torn line to the server: however late an answer, one logical publish is one entry."""

import asyncio
import random

import msgspec
import pytest

from actors.oona.bus import Outcome
from actors.oona.errors import UncertainError
from tests.actors.oona.faults.clients import HASTY, RedisClients, one_topic
from tests.actors.oona.faults.ledger import FaultLedger
from tests.actors.oona.faults.load import (
    Consumer,
    Publisher,
    connected,
    entries_made,
    insisted,
    settled,
    tried,
    until,
    until_taken,
)
from tests.actors.oona.faults.proxy import Proxy, mishap
from tests.actors.oona.faults.work import GROUP, TOPIC, Work
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer

COUNT = 200
ANSWER_BYTES = 40
"""Fewer than any answer has."""


def test_a_line_that_delays_throttles_tears_and_swallows(redis_server: RedisServer, seed: int) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("bad line", seed)
        options = msgspec.structs.replace(HASTY, deadline_s=0.1)
        async with (
            Proxy(redis_server.port) as to_publisher,
            Proxy(redis_server.port) as to_consumer,
            RedisClients("", one_topic(), options) as clients,
        ):
            here = await clients.insist(to_publisher.address)
            there = await clients.insist(to_consumer.address)
            consumer = Consumer(there, ledger, rng, "c").start()
            publisher = Publisher(here, ledger, rng)
            load = asyncio.create_task(publisher.publish(range(COUNT)))
            for moment in sorted(rng.sample(range(COUNT * 9 // 10), 5)):
                await until_taken(ledger, moment)
                await mishap(rng.choice([to_publisher, to_consumer]), rng)
            await asyncio.wait_for(load, PATIENCE_S)
            await settled(ledger, here, there)
            assert await entries_made(here, COUNT) == COUNT
            await consumer.stop()
        assert ledger.close().effects == COUNT

    asyncio.run(scenario())


def entries(server: RedisServer, namespace: str) -> int:
    """Messages in all streams of the work topic."""
    total = 0
    for rank in range(6):
        length = server.execute("XLEN", f"esper:{{{namespace}}}:s:{TOPIC}:{rank}")
        assert isinstance(length, int)
        total += length
    return total


@pytest.mark.parametrize("torn", ["swallowed", "cut in the middle", "cut at once", "late"])
def test_a_publish_whose_answer_is_lost_is_one_entry_and_one_delivery(
    redis_server: RedisServer, torn: str, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"answer {torn}", seed)
        before = rng.randrange(4)
        options = msgspec.structs.replace(HASTY, deadline_s=0.1)
        async with Proxy(redis_server.port) as proxy, RedisClients("", one_topic(), options) as clients:
            bus = await clients.insist(proxy.address)
            await until(lambda: connected(bus) and bus.link.idle, "a connection")
            for n in range(before):
                await insisted(bus, ledger, Work(n))
            await until(lambda: connected(bus) and bus.link.idle, "a connection")
            proxy.swallow = torn == "swallowed"
            middle = rng.randrange(1, ANSWER_BYTES)
            proxy.cut_after_bytes = {"cut in the middle": middle, "cut at once": 0}.get(torn)
            proxy.delay_s = PATIENCE_S if torn == "late" else 0.0
            work = Work(before, "x" * rng.choice([0, 10, 10_000]))
            assert isinstance(await tried(bus, ledger, work), UncertainError)
            proxy.swallow, proxy.delay_s = False, 0.0
            await until(lambda: entries(redis_server, clients.namespace) == before + 1, "an entry")
            assert (await insisted(bus, ledger, work)).outcome is Outcome.DUPLICATE
            assert entries(redis_server, clients.namespace) == before + 1
            consumer = Consumer(bus, ledger, rng, "c").start()
            await settled(ledger, bus)
            await consumer.stop()
        counts = ledger.close()
        assert counts.delivered == counts.effects == before + 1

    asyncio.run(scenario())


def test_calls_that_are_cancelled_in_the_middle_mix_up_no_answers(
    redis_server: RedisServer, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("cancelled calls", seed)
        async with Proxy(redis_server.port) as proxy, RedisClients("", one_topic()) as clients:
            bus = await clients.open_at(proxy.address)
            proxy.delay_s = 0.002
            for n in range(40):
                event_id = ledger.hand_over(n)
                ledger.uncertain.add(event_id)
                doomed = [
                    asyncio.create_task(bus.publish(TOPIC, Work(n), event_id=event_id)),
                    asyncio.create_task(bus.refresh()),
                    asyncio.create_task(bus.history(TOPIC)),
                    asyncio.create_task(bus.dead_letters.list()),
                ]
                await asyncio.sleep(rng.uniform(0.0, 0.004))
                for task in doomed:
                    task.cancel()
                await asyncio.wait(doomed)
                receipt = await bus.publish(TOPIC, Work(n), event_id=event_id)
                assert receipt.outcome in (Outcome.ACCEPTED, Outcome.DUPLICATE)
                ledger.answered(event_id, receipt)
                assert await bus.dead_letters.list() == []
                assert sum(row.ledger.accepted for row in (await bus.refresh()).published) == n + 1
            async with bus.subscribe(TOPIC, GROUP, "doomed") as subscription:
                for _ in range(10):
                    receiving = asyncio.create_task(subscription.receive(3))
                    await asyncio.sleep(rng.uniform(0.0, 0.004))
                    receiving.cancel()
                    await asyncio.wait({receiving})
                    if not receiving.cancelled():
                        for delivery in receiving.result():
                            assert isinstance(delivery.message, Work)
                            ledger.came(delivery.event_id, delivery.message.n)
                            ledger.did(delivery.event_id, by=bus)
                            delivery.ack()
            consumer = Consumer(bus, ledger, rng, "c").start()
            await settled(ledger, bus)
            await consumer.stop()
        assert ledger.close().effects == 40

    asyncio.run(scenario())
