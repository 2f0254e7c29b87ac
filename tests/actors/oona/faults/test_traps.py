"""The traps of Redis Streams, as they were measured and read of, one test each."""

import asyncio
import random

from actors.oona.metrics import GroupRow
from actors.oona.policy import Overflow
from actors.oona.priority import Lane
from tests.actors.oona.faults.clients import RedisClients, one_topic
from tests.actors.oona.faults.ledger import FaultLedger
from tests.actors.oona.faults.load import Consumer, Publisher, settled, until
from tests.actors.oona.faults.test_slow_line import entries
from tests.actors.oona.faults.work import GROUP, TOPIC, Work
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer


def test_the_length_of_a_stream_is_no_depth_and_what_is_acknowledged_makes_room(
    redis_server: RedisServer,
) -> None:
    async def scenario() -> None:
        rooms = one_topic(
            capacity=5, overflow=Overflow.REJECT, groups=(GROUP, "slow"), ack_deadline_s=PATIENCE_S
        )
        async with RedisClients(redis_server.address, rooms) as clients:
            bus = await clients.open()
            async with bus.subscribe(TOPIC, GROUP, "c") as quick, bus.subscribe(TOPIC, "slow", "c") as slow:
                for n in range(20):
                    await bus.publish(TOPIC, Work(n))
                    (delivery,) = await quick.receive()
                    delivery.ack()
                    await bus.flush()
                    pending = {row.group: row.ledger.pending for row in await normal_rows(clients)}
                    assert pending == {GROUP: 0, "slow": n % 5 + 1}
                    assert entries(redis_server, clients.namespace) == n % 5 + 1
                    if n % 5 == 4:
                        for each in await slow.receive(10):
                            each.ack()
                        await bus.flush()
            assert (await bus.refresh()).depth == 0
            assert entries(redis_server, clients.namespace) == 0

    asyncio.run(scenario())


def test_nothing_is_trimmed_before_it_is_acknowledged(redis_server: RedisServer) -> None:
    count = 1_000  # many macro nodes of a stream: an approximate MAXLEN would show

    async def scenario() -> None:
        ledger = FaultLedger("nothing trimmed", 0)
        async with RedisClients(redis_server.address, one_topic()) as clients:
            bus = await clients.open()
            publisher = Publisher(bus, ledger, random.Random(0))
            publisher.nowait_share, publisher.urgent_share = 0.95, 0.0
            await publisher.publish(range(count))
            await bus.flush()
            await until(lambda: entries(redis_server, clients.namespace) == count, "all entries")
            consumer = Consumer(bus, ledger, random.Random(0), "c").start()
            await settled(ledger, bus)
            await consumer.stop()
            assert entries(redis_server, clients.namespace) == 0
        assert ledger.close().effects == count

    asyncio.run(scenario())


def test_a_message_that_its_only_consumer_let_lie_comes_to_it_again(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with RedisClients(redis_server.address, one_topic(ack_deadline_s=0.1)) as clients:
            bus = await clients.open()
            await bus.publish(TOPIC, Work(1))
            async with bus.subscribe(TOPIC, GROUP, "alone") as subscription:
                attempts = [0]
                for _ in range(3):
                    (delivery,) = await subscription.receive()
                    assert delivery.attempt > attempts[-1], (
                        "one that was too late to be handed out counts too"
                    )
                    attempts.append(delivery.attempt)
                delivery.ack()
                await bus.flush()
            assert (await bus.refresh()).depth == 0

    asyncio.run(scenario())


def test_a_consumer_that_comes_back_under_its_name_gets_what_it_held(
    redis_server: RedisServer, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("held before", seed)
        async with RedisClients(redis_server.address, one_topic(ack_deadline_s=0.2)) as clients:
            bus, gone = await clients.open(), await clients.open()
            await Publisher(bus, ledger, rng).publish(range(10))
            await bus.flush()
            held = await gone.subscribe(TOPIC, GROUP, "same").receive(10)
            assert len(held) == 10
            await clients.close(gone)
            consumer = Consumer(bus, ledger, rng, "same").start()
            await settled(ledger, bus)
            await consumer.stop()
        assert ledger.close().effects == 10

    asyncio.run(scenario())


def test_what_comes_again_after_a_loss_of_data_is_acknowledged_again_and_not_done_again(
    own_redis: RedisServer, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("acknowledged again", seed)
        first = rng.randrange(1, 30)
        async with RedisClients(own_redis.address, one_topic()) as clients:
            here, there = await clients.open(), await clients.open()
            consumer = Consumer(there, ledger, rng, "c").start()
            publisher = Publisher(here, ledger, rng)
            publisher.nowait_share = 0.0
            await publisher.publish(range(first))
            await until(lambda: not ledger.missing, "all effects")
            own_redis.restart(keep_data=False)
            await publisher.publish(range(first, 30))
            await settled(ledger, here, there)
            await consumer.stop()
        counts = ledger.close()
        assert counts.effects == counts.delivered == 30

    asyncio.run(scenario())


def test_an_entry_that_somebody_deleted_holds_nobody_up(redis_server: RedisServer, seed: int) -> None:
    """XAUTOCLAIM of 6.2 gives such an entry back empty."""

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("deleted entry", seed)
        gone = rng.randrange(3)
        async with RedisClients(redis_server.address, one_topic(ack_deadline_s=0.1)) as clients:
            bus = await clients.open()
            publisher = Publisher(bus, ledger, rng)
            publisher.nowait_share = publisher.urgent_share = 0.0
            await publisher.publish(range(3))
            async with bus.subscribe(TOPIC, GROUP, "forgetful") as subscription:
                assert len(await subscription.receive(3)) == 3
            stream = f"esper:{{{clients.namespace}}}:s:{TOPIC}:4"
            deleted, _ = redis_server.execute("XRANGE", stream, "-", "+")[gone]  # type: ignore[index,misc]
            assert isinstance(deleted, bytes)
            assert redis_server.execute("XDEL", stream, deleted) == 1
            consumer = Consumer(bus, ledger, rng, "c").start()
            await until(lambda: len(ledger.missing) == 1, "the two others")
            await publisher.publish([3])
            await until(lambda: len(ledger.missing) == 1, "the next")
            await consumer.stop()
        ledger.close(excused={f"w{gone}"})

    asyncio.run(scenario())


async def normal_rows(clients: RedisClients) -> list[GroupRow]:
    bus = await clients.open()
    rows = [row for row in (await bus.refresh()).groups if row.lane is Lane.NORMAL]
    await clients.close(bus)
    return rows
