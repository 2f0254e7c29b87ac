"""Consumers and publishers in processes of their own, killed with SIGKILL at the worst moment."""

import asyncio
import random
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.actors.oona.faults import worker as worker_module
from tests.actors.oona.faults.clients import RedisClients, one_topic
from tests.actors.oona.faults.ledger import FaultLedger
from tests.actors.oona.faults.load import Consumer, Publisher, settled, until
from tests.actors.oona.faults.processes import process, said
from tests.actors.oona.redis_server import RedisServer

COUNT = 60


def read_effects(ledger: FaultLedger, store: sqlite3.Connection) -> None:
    """As the ledger counts them: an effect is a row of the table."""
    for (n,) in store.execute("SELECT n FROM effects"):
        ledger.effects[n] += 1


def read_deliveries(ledger: FaultLedger, store: sqlite3.Connection) -> None:
    for event_id, n in store.execute("SELECT event_id, n FROM deliveries"):
        assert ledger.numbers[event_id] == n
        ledger.delivered[event_id] += 1


def effects(store: sqlite3.Connection) -> int:
    (count,) = store.execute("SELECT count(*) FROM effects").fetchone()
    return int(count)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_consumer_killed_between_work_and_acknowledgement_does_nothing_twice(
    redis_server: RedisServer, tmp_path: Path, moment: str, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"consumer killed {moment} its work", seed)
        path = tmp_path / "effects.sqlite"
        store = worker_module.database(path)
        async with RedisClients(redis_server.address, worker_module.TOPICS) as clients:
            bus = await clients.open()
            words = (clients.address, clients.namespace, path)
            dies_at = rng.randrange(1, COUNT // 2)
            async with process("worker", *words, "mortal", dies_at, moment) as mortal:
                await said(mortal)
                await Publisher(bus, ledger, rng).publish(range(COUNT))
                assert await mortal.wait() == -signal.SIGKILL
                assert effects(store) == dies_at - (moment == "before")
                async with process("worker", *words, "heir", 0, moment) as heir:
                    await said(heir)
                    await until(lambda: effects(store) == COUNT, "all effects")
                    read_effects(ledger, store)
                    await settled(ledger, bus)
        read_deliveries(ledger, store)
        store.close()
        counts = ledger.close()
        assert counts.effects == counts.acknowledged == COUNT
        assert counts.delivered > COUNT, "what was in the dead one's hands came again"

    asyncio.run(scenario())


def test_a_publisher_killed_in_the_middle_of_it_is_taken_up_where_it_was(
    redis_server: RedisServer, seed: int
) -> None:
    count = 200

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("publisher killed", seed)
        for n in range(count):
            ledger.uncertain.add(ledger.hand_over(n))
        async with RedisClients(redis_server.address, one_topic()) as clients:
            bus = await clients.open()
            consumer = Consumer(bus, ledger, rng, "c").start()
            words = (clients.address, clients.namespace)
            last = -1
            async with process("sender", *words, 0, count) as mortal:
                for _ in range(rng.randrange(1, count // 2)):
                    last = int(await said(mortal))
                mortal.kill()
                await mortal.wait()
                assert mortal.stdout is not None
                rest = (await mortal.stdout.read()).decode().split("\n")
                last = max([last, *(int(line) for line in rest[:-1])])
            assert last < count - 1, "it was killed before its end"
            acknowledge(ledger, range(last + 1))
            async with process("sender", *words, last + 1, count - last - 1) as heir:
                assert await heir.wait() == 0
            acknowledge(ledger, range(last + 1, count))
            await settled(ledger, bus)
            await consumer.stop()
        counts = ledger.close()
        assert counts.effects == counts.acknowledged == count

    asyncio.run(scenario())


def acknowledge(ledger: FaultLedger, numbers: range) -> None:
    """What a process said that it was told."""
    ids = {f"w{n}" for n in numbers}
    ledger.acknowledged |= ids
    ledger.uncertain -= ids
