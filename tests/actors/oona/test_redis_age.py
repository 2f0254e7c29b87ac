"""What counts as a message's age on Redis: not the time in which nobody could reach the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.oona.policy import TopicPolicy
from actors.oona.redis.bus import RedisBus
from tests.actors.oona.note_frames import NoteFrames
from tests.actors.oona.redis_rig import OPTIONS, redis_bus
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import DEFAULTS, HandClock, Note, Rig

TOPICS = {"t": TopicPolicy(groups=("g",), stall_after_s=2.0)}
AWAY_S = 30.0


def test_an_outage_is_no_reason_to_turn_conservative_but_what_lies_on_after_it_is(
    redis_server: RedisServer,
) -> None:
    async def scenario() -> None:
        clock = HandClock()
        async with redis_bus(redis_server, TOPICS, clock=clock) as rig:
            rig.bus.subscribe("t", "g", "a")
            await rig.publish("t", [1])
            await rig.let_pass(0.1)
            clock.now_s += AWAY_S
            await rig.let_pass(1.8)
            assert not (await rig.bus.refresh()).conservative
            await rig.let_pass(0.5)
            fresh = await rig.bus.refresh()
            assert fresh.conservative
            assert "unacknowledged for 2" in fresh.conservative_cause

    asyncio.run(scenario())


def test_a_message_that_waited_elsewhere_is_young_on_the_server(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        clock = HandClock()
        async with redis_bus(redis_server, TOPICS, clock=clock) as rig:
            consumer = rig.bus.subscribe("t", "g", "a")
            await rig.settle()
            rig.bus.publish_nowait("t", Note(1))
            clock.now_s += AWAY_S
            await rig.let_pass(1.0)
            assert not (await rig.bus.refresh()).conservative
            assert await rig.ack_all(consumer) == [1]

    asyncio.run(scenario())


@asynccontextmanager
async def one_that_dies(server: RedisServer, name: str) -> AsyncIterator[tuple[Rig, RedisBus]]:
    """A bus whose other client has taken a message and gives no sign of life any more."""
    clock = HandClock()
    async with redis_bus(server, TOPICS, clock=clock, namespace=name) as rig:
        assert isinstance(rig.bus, RedisBus)
        other = await RedisBus.open(server.address, name, TOPICS, clock, NoteFrames(), DEFAULTS, OPTIONS)
        await rig.publish("t", [1])
        assert [each.message for each in await other.subscribe("t", "g", "dead").receive()] == [Note(1)]
        await rig.let_pass(1)
        await other.keep_house()
        yield rig, rig.bus
        await other.close()


def test_what_somebody_dead_holds_is_no_reason_but_what_a_living_one_lets_lie_beside_it_is(
    redis_server: RedisServer,
) -> None:
    async def scenario() -> None:
        async with one_that_dies(redis_server, "held by a dead one") as (rig, bus):
            living = bus.subscribe("t", "g", "living")
            await rig.let_pass(5)
            assert not (await bus.refresh()).conservative
            await rig.publish("t", [2])
            await living.receive()
            await rig.let_pass(1.9)
            assert not (await bus.refresh()).conservative
            await rig.let_pass(0.4)
            assert (await bus.refresh()).conservative

    asyncio.run(scenario())


def test_who_succeeds_a_dead_process_is_given_at_once_what_that_held(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with one_that_dies(redis_server, "succeeded") as (_, bus):
            heir = bus.subscribe("t", "g", "heir")
            assert await heir.receive(wait_s=0) == []
            await bus.succeed(["g", "unknown"])
            (delivery,) = await heir.receive()
            assert (delivery.message, delivery.attempt) == (Note(1), 2)

    asyncio.run(scenario())
