"""What counts as a message's age on Redis: not the time in which nobody could reach the server."""

import asyncio

from actors.oona.policy import TopicPolicy
from tests.actors.oona.redis_rig import redis_bus
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import HandClock, Note

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
