"""What hands and handlers can put into the bus on Redis without breaking it."""

import asyncio
import math
import struct

import pytest

from actors.oona.policy import TopicPolicy
from tests.actors.oona.redis_rig import redis_bus
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import Note, Rig, notes

TOPICS = {"t": TopicPolicy(groups=("g",), stall_after_s=None)}


async def still_works(rig: Rig, group: str = "g") -> None:
    await rig.publish("t", [77])
    consumer = rig.bus.subscribe("t", group, "afterwards")
    assert 77 in await rig.ack_all(consumer)


def test_an_error_text_that_is_no_text_travels_shortened(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with redis_bus(redis_server, {"t": TopicPolicy(groups=("g",), attempts_max=1)}) as rig:
            consumer = rig.bus.subscribe("t", "g", "a")
            await rig.publish("t", [1])
            (delivery,) = await consumer.receive()
            delivery.nack(error="caf\udce9 " + "x" * 5_000)
            await rig.settle()
            (letter,) = await rig.bus.dead_letters.list()
            assert letter.last_error.startswith("caf? xxx")
            assert len(letter.last_error) == 1_000
            await still_works(rig)

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", ["", "x" * 257, "caf\udce9"])
def test_an_event_id_that_no_reader_would_take_is_refused_at_once(
    redis_server: RedisServer, wrong: str
) -> None:
    async def scenario() -> None:
        async with redis_bus(redis_server, TOPICS) as rig:
            with pytest.raises(ValueError, match="event id"):
                await rig.bus.publish("t", Note(1), event_id=wrong)
            with pytest.raises(ValueError, match="group"):
                rig.bus.subscribe("t", wrong, "a")
            await still_works(rig)

    asyncio.run(scenario())


@pytest.mark.parametrize(("event_id", "priority"), [(b"\xff", 2), (b"fine", 9)])
def test_an_entry_that_somebody_forged_does_not_break_the_bus(
    redis_server: RedisServer, event_id: bytes, priority: int
) -> None:
    async def scenario() -> None:
        others = set(redis_server.execute("KEYS", "*:s:t:4"))
        async with redis_bus(redis_server, TOPICS) as rig:
            await rig.publish("t", [1])
            await rig.settle()
            (key,) = set(redis_server.execute("KEYS", "*:s:t:4")) - others
            plain = struct.pack("<dBdddd", 1, priority, 100.0, math.inf, 0, 100.0)
            forged = redis_server.execute(
                "XADD", key, "*", "id", event_id, "plain", plain, "envelope", b"nonsense"
            )
            records = key.replace(b":s:t:4", b":m:t:g")
            redis_server.execute("HSET", records, b"4:" + forged, "1")
            consumer = rig.bus.subscribe("t", "g", "a")
            taken = notes(await consumer.receive(1, wait_s=0))
            await rig.settle()
            assert taken in ([1], [])
            await still_works(rig)

    asyncio.run(scenario())


def test_more_than_one_answer_can_hold_comes_in_several(redis_server: RedisServer) -> None:
    count, groups = 150, 24

    async def scenario() -> None:
        names = tuple(f"g{n}" for n in range(groups))
        async with redis_bus(redis_server, {"t": TopicPolicy(groups=names, stall_after_s=None)}) as rig:
            await rig.publish("t", range(count))
            consumers = [rig.bus.subscribe("t", name, "a") for name in names]
            seen = await asyncio.gather(*(rig.ack_all(consumer) for consumer in consumers))
            assert all(each == list(range(count)) for each in seen)

    asyncio.run(scenario())


def test_what_is_written_after_a_namespace_was_retired_expires_too(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with redis_bus(redis_server, TOPICS) as rig:
            consumer = rig.bus.subscribe("t", "g", "a")
            await rig.publish("t", [1])
            await rig.ack_all(consumer)
            await rig.bus.retire(1_000.0)
            await rig.publish("t", [2, 3])
            await consumer.receive(1)
            await rig.let_pass(0.3)
            mine = {key.rsplit(b"}", 1)[0] for key in redis_server.execute("KEYS", "*:kept")}
            keys = [key for key in redis_server.execute("KEYS", "esper:*") if key.rsplit(b"}", 1)[0] in mine]
            assert len(keys) > 10
            assert [key for key in keys if redis_server.execute("TTL", key) == -1] == []

    asyncio.run(scenario())
