"""Consumers and publishers in processes of their own, killed with SIGKILL at the worst moment."""

import asyncio
import random
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.actors.oona.faults import worker as worker_module
from tests.actors.oona.faults.clients import RedisClients, one_topic
from tests.actors.oona.faults.ledger import SIGNED, FaultLedger
from tests.actors.oona.faults.load import Consumer, Publisher, settled, until, until_taken
from tests.actors.oona.faults.processes import process, said
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer

COUNT = 60
MOST = 50_000
"""Numbers that a publisher has before it: more than a pipe holds, so that it is never through when it is
killed, however late we come to that."""


def read_done(ledger: FaultLedger, store: sqlite3.Connection) -> None:
    """What each process has done to its end."""
    for event_id, consumer in store.execute("SELECT event_id, consumer FROM done"):
        ledger.did(event_id, by=consumer)


def read_deliveries(ledger: FaultLedger, store: sqlite3.Connection) -> None:
    for event_id, n in store.execute("SELECT event_id, n FROM deliveries"):
        ledger.came(event_id, n)


def effects(store: sqlite3.Connection) -> int:
    return int(store.execute("SELECT count(*) FROM effects").fetchone()[0])


def tries(store: sqlite3.Connection) -> int:
    """Effects as they would be if the store did not know them by event id."""
    return int(store.execute("SELECT sum(tries) FROM effects").fetchone()[0])


def done(store: sqlite3.Connection) -> int:
    return int(store.execute("SELECT count(DISTINCT event_id) FROM done").fetchone()[0])


@pytest.mark.parametrize(("moment", "signed"), [("before", False), ("after", False), ("after", True)])
def test_a_consumer_killed_between_work_and_acknowledgement_does_nothing_twice(
    redis_server: RedisServer, tmp_path: Path, moment: str, signed: bool, seed: int
) -> None:
    async def scenario() -> None:
        rng = random.Random(seed)
        ledger = FaultLedger(f"consumer killed {moment} its work{SIGNED * signed}", seed)
        path = tmp_path / "effects.sqlite"
        store = worker_module.database(path)
        async with RedisClients(redis_server.address, worker_module.TOPICS, signed=signed) as clients:
            bus = await clients.open()
            words = (clients.address, clients.namespace, int(signed), path)
            dies_at = rng.randrange(1, COUNT // 2)
            async with process("worker", *words, "mortal", dies_at, moment) as mortal:
                await said(mortal)
                await Publisher(bus, ledger, rng).publish(range(COUNT))
                assert await mortal.wait() == -signal.SIGKILL
                assert effects(store) == dies_at - (moment == "before")
                async with process("worker", *words, "heir", 0, moment) as heir:
                    await said(heir)
                    await until(lambda: done(store) == COUNT, "all of it done")
                    read_done(ledger, store)
                    await settled(ledger, bus)
        read_deliveries(ledger, store)
        assert effects(store) == COUNT
        assert moment == "before" or tries(store) > COUNT, "the store knew one again"
        store.close()
        counts = ledger.close()
        assert counts.effects == counts.acknowledged == COUNT
        assert counts.delivered > COUNT, "what was in the dead one's hands came again"

    asyncio.run(scenario())


def test_two_consumers_have_each_effect_once_in_their_store_though_the_server_loses_its_data(
    own_redis: RedisServer, tmp_path: Path, seed: int
) -> None:
    """Neither knows what the other had done, nor does the server any longer: the store does."""

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("two processes, data lost", seed)
        path = tmp_path / "effects.sqlite"
        store = worker_module.database(path)
        async with RedisClients(own_redis.address, worker_module.TOPICS) as clients:
            bus = await clients.open()
            words = (clients.address, clients.namespace, 0, path)
            async with (
                process("worker", *words, "one", 0, "never") as one,
                process("worker", *words, "two", 0, "never") as two,
            ):
                await asyncio.gather(said(one), said(two))
                load = asyncio.create_task(Publisher(bus, ledger, rng).publish(range(COUNT)))
                for moment in sorted(rng.sample(range(COUNT), 3)):
                    await until_taken(ledger, moment)
                    await asyncio.to_thread(own_redis.restart, keep_data=False)
                await asyncio.wait_for(load, PATIENCE_S)
                await until(lambda: done(store) == COUNT, "all of it done")
                read_done(ledger, store)
                await settled(ledger, bus)
        read_deliveries(ledger, store)
        assert effects(store) == COUNT
        store.close()
        assert ledger.close().effects == COUNT

    asyncio.run(scenario())


def test_a_publisher_killed_in_the_middle_of_it_is_taken_up_where_it_was(
    redis_server: RedisServer, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("publisher killed", seed)
        for n in range(MOST):
            ledger.uncertain.add(ledger.hand_over(n))
        async with RedisClients(redis_server.address, one_topic()) as clients:
            bus = await clients.open()
            consumer = Consumer(bus, ledger, rng, "c").start()
            words = (clients.address, clients.namespace)
            last = -1
            async with process("sender", *words, 0, MOST) as mortal:
                for _ in range(rng.randrange(1, COUNT)):
                    last = int(await said(mortal))
                mortal.kill()
                await mortal.wait()
                assert mortal.stdout is not None
                rest = (await mortal.stdout.read()).decode().split("\n")
                last = max([last, *(int(line) for line in rest[:-1])])
            count = last + 1 + COUNT
            assert count <= MOST, "it was killed before its end"
            acknowledge(ledger, range(last + 1))
            async with process("sender", *words, last + 1, COUNT) as heir:
                while int(await said(heir)) < count - 1:
                    pass
                assert await heir.wait() == 0
            acknowledge(ledger, range(last + 1, count))
            await settled(ledger, bus)
            await consumer.stop()
        forget(ledger, range(count, MOST))
        counts = ledger.close()
        assert counts.effects == counts.acknowledged == count

    asyncio.run(scenario())


def forget(ledger: FaultLedger, numbers: range) -> None:
    """What nobody came to publish; none of it was delivered."""
    for n in numbers:
        assert not ledger.delivered[f"w{n}"]
        ledger.uncertain.discard(f"w{n}")
        del ledger.numbers[f"w{n}"]


def acknowledge(ledger: FaultLedger, numbers: range) -> None:
    """What a process said that it was told."""
    ids = {f"w{n}" for n in numbers}
    ledger.acknowledged |= ids
    ledger.uncertain -= ids
