"""A server that is killed and comes back: with all its data, with older data, with none, or late."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from actors.oona.bus import Outcome
from actors.oona.errors import OutboxFullError, UncertainError, UnreachableError
from tests.actors.oona.faults.clients import HASTY, OPTIONS, RedisClients, one_topic, open_bus
from tests.actors.oona.faults.ledger import SIGNED, FaultLedger
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
from tests.actors.oona.faults.proxy import Proxy
from tests.actors.oona.faults.work import TOPIC, Work
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer

COUNT = 300


class _Deaths:
    """Kills the server twice while the load is on, at moments that the seed chooses."""

    def __init__(self, server: RedisServer, ledger: FaultLedger, rng: random.Random) -> None:
        self.server = server
        self.ledger = ledger
        self.moments = sorted(rng.sample(range(COUNT // 10, COUNT * 8 // 10), 3))

    async def acknowledged(self, moment: int) -> None:
        await until_taken(self.ledger, self.moments[moment])

    async def die_and_return(self, comes_back: Callable[[], None]) -> None:
        for moment in (1, 2):
            await self.acknowledged(moment)
            await self.go_away(comes_back)

    async def go_away(self, comes_back: Callable[[], None]) -> None:
        self.server.kill()
        await asyncio.sleep(0.03)  # somebody tries meanwhile
        await asyncio.to_thread(comes_back)


async def _under_load(server: RedisServer, seed: int, fault: str, signed: bool) -> FaultLedger:
    rng, ledger = random.Random(seed), FaultLedger(f"killed, back {fault}{SIGNED * signed}", seed)
    deaths = _Deaths(server, ledger, rng)
    async with RedisClients(server.address, one_topic(ack_deadline_s=0.3), signed=signed) as clients:
        here, there = await clients.open(), await clients.open()
        consumers = [Consumer(there, ledger, rng, f"c{i}") for i in range(2)]
        for consumer in consumers:
            consumer.forget_share = 0.05
            consumer.pause_s = 0.005
            consumer.start()
        publishers = [Publisher(here, ledger, rng) for _ in range(2)]
        load = asyncio.gather(*(each.publish(range(i, COUNT, 2)) for i, each in enumerate(publishers)))
        await _FAULTS[fault](deaths)
        await asyncio.wait_for(load, PATIENCE_S)
        await settled(ledger, here, there)
        for consumer in consumers:
            await consumer.stop()
        if fault == "with its data":
            assert await entries_made(here, COUNT) == COUNT
        link = (await here.refresh()).link
        assert link is not None
        assert link.reconnects >= 1, "the fault was felt"
        assert not link.refused
    return ledger


async def _with_data(deaths: _Deaths) -> None:
    await deaths.die_and_return(lambda: deaths.server.restart(keep_data=True))


async def _without_data(deaths: _Deaths) -> None:
    await deaths.die_and_return(lambda: deaths.server.restart(keep_data=False))


async def _with_older_data(deaths: _Deaths) -> None:
    await deaths.acknowledged(0)
    copy: Path = deaths.server.copy_data()
    await deaths.acknowledged(1)
    await deaths.go_away(lambda: deaths.server.restart_from(copy))


_FAULTS = {
    "with its data": _with_data,
    "without its data": _without_data,
    "with older data": _with_older_data,
}


@pytest.mark.parametrize(
    ("fault", "signed"), [*((each, False) for each in _FAULTS), ("without its data", True)]
)
def test_a_killed_server_that_comes_back_has_cost_nothing(
    own_redis: RedisServer, fault: str, signed: bool, seed: int
) -> None:
    counts = asyncio.run(_under_load(own_redis, seed, fault, signed)).close()
    assert counts.acknowledged == counts.effects == COUNT


@pytest.mark.parametrize("losses", [1, 3])
def test_what_nobody_has_read_yet_outlives_a_server_without_its_data(
    own_redis: RedisServer, losses: int, seed: int
) -> None:
    """Each loss finds the publisher in the middle of asking what it need not keep any longer."""

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"data lost {losses} times, unread", seed)
        async with RedisClients(own_redis.address, one_topic()) as clients:
            here = await clients.open()
            await Publisher(here, ledger, rng).publish(range(50))
            for _ in range(losses):
                await here.flush()
                own_redis.execute("FLUSHALL")
                await until(lambda: own_redis.execute("DBSIZE") != 0, "that it is given back")
                await asyncio.sleep(rng.uniform(0, 4) * here.tick_s)
            there = await clients.open()
            consumer = Consumer(there, ledger, rng, "c").start()
            await settled(ledger, here, there)
            await consumer.stop()
        assert ledger.close().effects == 50

    asyncio.run(scenario())


def test_a_publisher_lets_nothing_go_while_it_is_giving_it_back(own_redis: RedisServer, seed: int) -> None:
    """From the loss of data to the answer to what is given back, the keys of entries are worth nothing."""

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("asked while giving back", seed)
        async with Proxy(own_redis.port) as line, RedisClients(own_redis.address, one_topic()) as clients:
            here = await open_bus(line.address, clients.namespace, one_topic())
            await Publisher(here, ledger, rng).publish(range(20))
            await here.flush()
            own_redis.execute("FLUSHALL")
            line.delay_s = 0.1
            told = asyncio.create_task(insisted(here, ledger, Work(20)))
            await until(lambda: own_redis.execute("DBSIZE") != 0, "a new generation")
            await asyncio.sleep(rng.uniform(0, 2) * line.delay_s)
            await asyncio.gather(told, here.keep_house())
            line.delay_s = 0.0
            own_redis.execute("FLUSHALL")
            there = await clients.open()
            consumer = Consumer(there, ledger, rng, "c").start()
            await insisted(here, ledger, Work(21))
            await settled(ledger, here, there)
            await consumer.stop()
            await here.close()
        assert ledger.close().effects == 22

    asyncio.run(scenario())


@pytest.mark.parametrize("later", ["publish", "publish_nowait"])
def test_what_was_acknowledged_as_a_duplicate_outlives_a_loss_of_data(
    own_redis: RedisServer, later: str, seed: int
) -> None:
    """The answer to the first try was lost; to the publisher the second one counts."""

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"duplicate by {later}", seed)
        options = msgspec.structs.replace(HASTY, deadline_s=0.1)
        async with (
            Proxy(own_redis.port) as line,
            RedisClients(own_redis.address, one_topic(), options) as clients,
        ):
            here = await clients.insist(line.address)
            await until(lambda: connected(here) and here.link.idle, "a connection")
            line.swallow = True
            assert isinstance(await tried(here, ledger, Work(1)), UncertainError)
            line.swallow = False
            await until(lambda: connected(here), "a connection")
            if later == "publish":
                assert (await insisted(here, ledger, Work(1))).outcome is Outcome.DUPLICATE
            else:
                ledger.answered("w1", here.publish_nowait(TOPIC, Work(1), event_id="w1"))
                await here.flush()
            own_redis.execute("FLUSHALL")
            there = await clients.insist()
            consumer = Consumer(there, ledger, rng, "c").start()
            await settled(ledger, here, there)
            await consumer.stop()
        assert ledger.close().effects == 1

    asyncio.run(scenario())


def test_while_the_server_is_away_publish_is_refused_and_the_outbox_takes_what_it_may(
    own_redis: RedisServer, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("away", seed)
        room = rng.randrange(1, 40)
        options = msgspec.structs.replace(OPTIONS, outbox_messages_max=room)
        async with RedisClients(own_redis.address, one_topic(), options) as clients:
            bus = await clients.open()
            consumer = Consumer(bus, ledger, rng, "c").start()
            own_redis.kill()
            await until(lambda: not connected(bus), "a broken connection")
            assert isinstance(await tried(bus, ledger, Work(1000)), UnreachableError)
            for n in range(room):
                event_id = ledger.hand_over(n)
                ledger.answered(event_id, bus.publish_nowait(TOPIC, Work(n), event_id=event_id))
            with pytest.raises(OutboxFullError):
                bus.publish_nowait(TOPIC, Work(room))
            own_redis.restart(keep_data=True)
            await settled(ledger, bus)
            await consumer.stop()
        counts = ledger.close()
        assert (counts.effects, counts.refused) == (room, 1)

    asyncio.run(scenario())
