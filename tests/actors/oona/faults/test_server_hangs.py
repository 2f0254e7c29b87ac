"""A server that hangs (SIGSTOP): a short pause is not noticed, a long one costs each caller its deadline."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import pytest

from actors.oona.bus import Bus
from actors.oona.errors import BusError, UncertainError
from actors.oona.redis.options import RedisOptions
from tests.actors.oona.faults.clients import OPTIONS, RedisClients, one_topic
from tests.actors.oona.faults.ledger import FaultLedger
from tests.actors.oona.faults.load import PATIENCE_S, Consumer, Publisher, entries_made, settled, until_taken
from tests.actors.oona.faults.work import GROUP, TOPIC, Work
from tests.actors.oona.redis_server import RedisServer

COUNT = 200
STATED_S = RedisOptions().deadline_s
BOUND_S = 5 * STATED_S
"""Five times the deadline: the machine that runs this may be busy with other things."""


async def _under_load(server: RedisServer, ledger: FaultLedger, rng: random.Random, pause_s: float) -> int:
    """Hang twice for `pause_s`; times that the publisher's client had to connect again."""
    options = msgspec.structs.replace(OPTIONS, deadline_s=0.2 if pause_s > 0.2 else 5.0)
    moments = sorted(rng.sample(range(COUNT // 10, COUNT * 8 // 10), 2))
    async with RedisClients(server.address, one_topic(ack_deadline_s=5.0), options) as clients:
        here, there = await clients.open(), await clients.open()
        consumer = Consumer(there, ledger, rng, "c").start()
        publisher = Publisher(here, ledger, rng)
        load = asyncio.create_task(publisher.publish(range(COUNT)))
        for moment in moments:
            await until_taken(ledger, moment)
            server.pause()
            await asyncio.sleep(pause_s)
            server.resume()
        await asyncio.wait_for(load, PATIENCE_S)
        await settled(ledger, here, there)
        await consumer.stop()
        assert await entries_made(here) == COUNT
        assert publisher.longest_s < BOUND_S + pause_s
        assert publisher.nowait_longest_s < STATED_S
        link = (await here.refresh()).link
        assert link is not None
        return link.reconnects


def test_a_pause_shorter_than_the_deadline_is_not_noticed(own_redis: RedisServer, seed: int) -> None:
    ledger = FaultLedger("hung, shortly", seed)
    reconnects = asyncio.run(_under_load(own_redis, ledger, random.Random(seed), 0.05))
    counts = ledger.close()
    assert counts.effects == counts.acknowledged == counts.delivered == COUNT
    assert (counts.refused, counts.uncertain, reconnects) == (0, 0, 0)


def test_a_pause_longer_than_the_deadline_loses_and_doubles_nothing(
    own_redis: RedisServer, seed: int
) -> None:
    ledger = FaultLedger("hung, for long", seed)
    reconnects = asyncio.run(_under_load(own_redis, ledger, random.Random(seed), 0.6))
    counts = ledger.close()
    assert counts.effects == counts.acknowledged == COUNT
    assert reconnects >= 1


async def _publish(bus: Bus) -> None:
    await bus.publish(TOPIC, Work(1))


async def _publish_nowait(bus: Bus) -> None:
    bus.publish_nowait(TOPIC, Work(1))


async def _flush_after_nowait(bus: Bus) -> None:
    bus.publish_nowait(TOPIC, Work(1))
    await bus.flush()


async def _receive_what_is_there(bus: Bus) -> None:
    subscription = bus.subscribe(TOPIC, GROUP, "late")
    assert await subscription.receive(1, wait_s=0) == []
    subscription.close()


async def _receive_for_a_moment(bus: Bus) -> None:
    subscription = bus.subscribe(TOPIC, GROUP, "late")
    assert await subscription.receive(1, wait_s=0.1) == []
    subscription.close()


async def _metrics(bus: Bus) -> None:
    assert bus.metrics().link is not None


async def _refresh(bus: Bus) -> None:
    await bus.refresh()


CALLS: dict[str, Callable[[Bus], Awaitable[object]]] = {
    "publish": _publish,
    "publish_nowait": _publish_nowait,
    "flush": _flush_after_nowait,
    "receive, what is there": _receive_what_is_there,
    "receive, for a moment": _receive_for_a_moment,
    "metrics": _metrics,
    "refresh": _refresh,
    "history": lambda bus: bus.history(TOPIC),
    "list letters": lambda bus: bus.dead_letters.list(),
    "inspect a letter": lambda bus: bus.dead_letters.inspect("x"),
    "replay a letter": lambda bus: bus.dead_letters.replay("x"),
    "drop a letter": lambda bus: bus.dead_letters.drop("x"),
    "keep house": lambda bus: bus.keep_house(),
    "close": lambda bus: bus.close(),
}


def test_every_call_to_a_hung_server_is_back_within_its_deadline_and_so_is_the_next(
    own_redis: RedisServer,
) -> None:
    async def timed(bus: Bus, call: str) -> dict[str, float]:
        """Seconds that a call took, made twice."""
        loop, took = asyncio.get_running_loop(), {}
        for time in ("first", "again"):
            began_s = loop.time()
            with suppress(BusError):
                await CALLS[call](bus)
            took[f"{call}, {time}"] = loop.time() - began_s
        return took

    async def scenario() -> None:
        async with RedisClients(own_redis.address, one_topic(), RedisOptions()) as clients:
            buses = [await clients.open() for _ in CALLS]
            await buses[0].publish(TOPIC, Work(0))
            own_redis.pause()
            every = await asyncio.gather(*(timed(bus, call) for bus, call in zip(buses, CALLS, strict=True)))
            own_redis.resume()
        took = {name: seconds for each in every for name, seconds in each.items()}
        assert {name: seconds for name, seconds in took.items() if seconds > BOUND_S} == {}
        assert took["publish, first"] > STATED_S / 2, "the server did hang"

    asyncio.run(scenario())


def test_many_callers_of_a_hung_server_wait_together_not_one_after_the_other(own_redis: RedisServer) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with RedisClients(own_redis.address, one_topic(), RedisOptions()) as clients:
            bus = await clients.open()
            own_redis.pause()
            began_s = loop.time()
            answers = await asyncio.gather(
                *(bus.publish(TOPIC, Work(n)) for n in range(50)), return_exceptions=True
            )
            assert loop.time() - began_s < BOUND_S
            assert all(isinstance(answer, BusError) for answer in answers)
            assert any(isinstance(answer, UncertainError) for answer in answers)
            own_redis.resume()

    asyncio.run(scenario())


def test_opening_a_bus_on_a_hung_server_fails_within_a_bound(own_redis: RedisServer) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        own_redis.pause()
        began_s = loop.time()
        async with RedisClients(own_redis.address, one_topic(), RedisOptions()) as clients:
            with pytest.raises(BusError):
                await clients.open()
        assert loop.time() - began_s < 2 * BOUND_S
        own_redis.resume()

    asyncio.run(scenario())


def test_the_event_loop_goes_on_while_the_server_hangs(own_redis: RedisServer) -> None:
    async def scenario() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        async with RedisClients(own_redis.address, one_topic()) as clients:
            bus = await clients.open()
            own_redis.pause()
            counting = asyncio.create_task(count())
            for n in range(200):
                bus.publish_nowait(TOPIC, Work(n))
            with pytest.raises(BusError):
                await bus.publish(TOPIC, Work(200))
            counting.cancel()
            assert turns > 20, "of some 200"
            own_redis.resume()

    asyncio.run(scenario())
