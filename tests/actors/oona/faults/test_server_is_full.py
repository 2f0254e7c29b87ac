"""A server without memory: it refuses to the caller, still acknowledges, and is drained by that."""

import asyncio
import random

import pytest

from actors.oona.bus import Receipt
from actors.oona.errors import RefusedError, UncertainError
from tests.actors.oona.faults.clients import RedisClients, one_topic
from tests.actors.oona.faults.ledger import FaultLedger
from tests.actors.oona.faults.load import Consumer, Publisher, settled, tried
from tests.actors.oona.faults.work import GROUP, TOPIC, Work
from tests.actors.oona.redis_server import RedisServer

BODY_MAX = 20_000
ROOM_BYTES = 2_000_000
TRIES_MAX = 1_000


async def filled(clients: RedisClients, server: RedisServer, ledger: FaultLedger, body: str) -> int:
    """Publish until the server has no memory; how many it took."""
    bus = await clients.open()
    server.config("maxmemory", server.used_memory() + ROOM_BYTES)
    for n in range(TRIES_MAX):
        answer = await tried(bus, ledger, Work(n, body))
        if isinstance(answer, RefusedError):
            assert not isinstance(answer, UncertainError)
            return n
    raise AssertionError("the server took everything")


def test_out_of_memory_refuses_and_acknowledging_makes_room(own_redis: RedisServer, seed: int) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("out of memory", seed)
        body = "x" * rng.randrange(5_000, BODY_MAX)
        async with RedisClients(own_redis.address, one_topic()) as clients:
            taken = await filled(clients, own_redis, ledger, body)
            assert 20 < taken < ROOM_BYTES // len(body) + 20
            here, there = await clients.open(), await clients.open()
            with pytest.raises(RefusedError, match="memory"):
                await here.publish(TOPIC, Work(5000, body), event_id="w5000")
            async with there.subscribe(TOPIC, GROUP, "c") as subscription:
                while deliveries := await subscription.receive(rng.randrange(1, 17), wait_s=0):
                    for delivery in deliveries:
                        assert isinstance(delivery.message, Work)
                        ledger.came(delivery.event_id, delivery.message.n)
                        ledger.did(delivery.event_id, by=there)
                        delivery.ack()
                    await there.flush()
            assert isinstance(await tried(here, ledger, Work(5000, body)), Receipt)
            consumer = Consumer(there, ledger, rng, "d").start()
            await settled(ledger, here, there)
            await consumer.stop()
        counts = ledger.close()
        assert (counts.effects, counts.refused) == (taken + 1, 1)

    asyncio.run(scenario())


def test_a_server_that_lost_its_data_and_has_no_memory_is_given_all_back_when_it_has(
    own_redis: RedisServer, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("lost its data, and no memory", seed)
        count = rng.randrange(1, 100)
        async with RedisClients(own_redis.address, one_topic()) as clients:
            here = await clients.open()
            publisher = Publisher(here, ledger, rng)
            await publisher.publish(range(count))
            await here.flush()
            own_redis.execute("FLUSHALL")
            own_redis.config("maxmemory", own_redis.used_memory() // 2)
            await here.flush()
            await asyncio.sleep(rng.uniform(0, 5) * here.tick_s)
            own_redis.config("maxmemory", 0)
            there = await clients.open()
            consumer = Consumer(there, ledger, rng, "c").start()
            await publisher.publish(range(count, count + 10))
            await settled(ledger, here, there)
            await consumer.stop()
        assert ledger.close().effects == count + 10

    asyncio.run(scenario())


def test_load_on_a_server_that_runs_out_of_memory_again_and_again(own_redis: RedisServer, seed: int) -> None:
    count = 200

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("short of memory", seed)
        async with RedisClients(own_redis.address, one_topic(ack_deadline_s=0.3)) as clients:
            here, there = await clients.open(), await clients.open()
            own_redis.config("maxmemory", own_redis.used_memory() + ROOM_BYTES // 4)
            consumer = Consumer(there, ledger, rng, "c")
            consumer.forget_share = 0.05
            consumer.pause_s = 0.03
            consumer.start()
            publishers = [Publisher(here, ledger, rng, body_bytes=20_000) for _ in range(3)]
            for publisher in publishers:
                publisher.give_up_share = 0.05
            await asyncio.gather(
                *(each.publish(range(i, count, len(publishers))) for i, each in enumerate(publishers))
            )
            await settled(ledger, here, there)
            await consumer.stop()
        assert ledger.close().effects > count // 2
        assert int(own_redis.info("stats").get("evicted_keys", "0")) == 0

    asyncio.run(scenario())
