"""Everything at once: faults of all kinds, one after the other, in an order that the seed chooses."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from actors.oona.policy import Overflow
from tests.actors.oona.faults.clients import HASTY, RedisClients, one_topic
from tests.actors.oona.faults.ledger import SIGNED, FaultLedger
from tests.actors.oona.faults.load import Consumer, Publisher, settled, until_taken
from tests.actors.oona.faults.proxy import Proxy, mishap
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer

COUNT = 300
FAULTS = 8


class Storm:
    """Two publishing clients, one of them behind a bad line, and two that consume and may be replaced."""

    def __init__(
        self, server: RedisServer, clients: RedisClients, ledger: FaultLedger, rng: random.Random
    ) -> None:
        self.server = server
        self.clients = clients
        self.ledger = ledger
        self.rng = rng
        self.consumers: list[Consumer] = []
        self._hired = 0

    async def hire(self) -> None:
        """One consumer more, with a client of its own."""
        self._hired += 1
        consumer = Consumer(await self.clients.insist(), self.ledger, self.rng, f"c{self._hired}")
        consumer.forget_share = 0.05
        consumer.pause_s = self.rng.choice([0.0, 0.003])
        self.consumers.append(consumer.start())

    async def dismiss(self, leave: bool = True) -> None:
        """One consumer less; with what it holds, if it does not leave in order."""
        consumer = self.consumers.pop(0)
        if leave:
            await consumer.stop()
            await self.clients.close(consumer.bus)
        else:
            await self.clients.close(consumer.bus)
            await consumer.ended()

    async def kill(self) -> None:
        self.server.kill()
        await asyncio.sleep(self.rng.uniform(0.0, 0.1))
        await asyncio.to_thread(self.server.restart, keep_data=True)

    async def kill_and_lose(self) -> None:
        await asyncio.to_thread(self.server.restart, keep_data=False)

    async def flush_all(self) -> None:
        self.server.execute("FLUSHALL")

    async def hang(self) -> None:
        self.server.pause()
        await asyncio.sleep(self.rng.uniform(0.0, 0.5))
        self.server.resume()

    async def flush_scripts(self) -> None:
        self.server.execute("SCRIPT", "FLUSH")

    async def cut(self) -> None:
        kind = self.rng.choice(["normal", "pubsub"])
        self.server.execute("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def starve(self) -> None:
        self.server.config("maxmemory", self.server.used_memory() - 10_000)
        await asyncio.sleep(self.rng.uniform(0.0, 0.2))
        self.server.config("maxmemory", 0)

    async def replace(self) -> None:
        await self.hire()
        await self.dismiss(leave=self.rng.random() < 0.5)

    @property
    def faults(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            *(self.kill, self.kill_and_lose, self.flush_all, self.hang),
            *(self.flush_scripts, self.cut, self.starve, self.replace),
        ]


@pytest.mark.parametrize("signed", [False, True])
def test_nothing_is_lost_or_doubled_in_a_storm(own_redis: RedisServer, signed: bool, seed: int) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"storm{SIGNED * signed}", seed)
        overflow = rng.choice([Overflow.WAIT, Overflow.REJECT, Overflow.REROUTE])
        topics = one_topic(overflow=overflow, capacity=rng.choice([30, 50_000]), ack_deadline_s=0.3)
        options = msgspec.structs.replace(
            HASTY,
            outbox_messages_max=rng.choice([25, 20_000]),
            batch_ops_max=rng.choice([4, 256]),
            waiting_ops_max=rng.choice([10, 100_000]),
        )
        async with (
            Proxy(own_redis.port) as line,
            RedisClients(own_redis.address, topics, options, signed=signed) as clients,
        ):
            storm = Storm(own_redis, clients, ledger, rng)
            here, there = await clients.insist(), await clients.insist(line.address)
            await storm.hire()
            await storm.hire()
            publishers = [Publisher(bus, ledger, rng) for bus in (here, there) for _ in range(2)]
            load = asyncio.gather(
                *(each.publish(range(i, COUNT, len(publishers))) for i, each in enumerate(publishers))
            )
            for moment in sorted(rng.sample(range(COUNT * 9 // 10), FAULTS)):
                await until_taken(ledger, moment)
                fault = rng.choice(storm.faults)
                await asyncio.gather(fault(), mishap(line, rng))
            await asyncio.wait_for(load, PATIENCE_S)
            await settled(ledger, here, there)
            while storm.consumers:
                await storm.dismiss()
        assert ledger.close().effects == COUNT

    asyncio.run(scenario())
