"""What hands and handlers can put into the bus on Redis without breaking it."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import msgspec
import pytest

from actors.oona.policy import Overflow, TopicPolicy
from actors.oona.priority import Lane
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import LeylineFrames
from actors.oona.redis.inbox import UNKNOWN_ENTRY
from actors.oona.redis.wire import Given, given
from contracts import topics
from contracts.messages import AdaptationCommand, CommandType
from contracts.signing.keyring import Keyring
from tests.actors.oona.redis_rig import redis_bus, refused
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import HandClock, Note, Rig
from tests.actors.oona.strangers import Stranger, plain

COMMAND: Final = AdaptationCommand("c1", CommandType.PAUSE, 1, "tamiyo")
_numbers = count(1)
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


SIGNED: Final = {topics.ADAPTATION_COMMAND: TopicPolicy(groups=("g", "h"), stall_after_s=None, history=8)}
ROUNDS: Final = 8
"""More than there are entries in a test."""
FRAME: Final = ("envelope", b"nonsense")
NAN: Final = math.nan
HUGE: Final = 1e300
FORGED: Final = [
    ("id", b"\xff", "plain", plain(), *FRAME),
    ("id", b"\xed\xa0\x80", "plain", plain(), *FRAME),
    ("id", b"\xe0\x80\x80", "plain", plain(), *FRAME),
    ("id", b"x" * 100_000, "plain", plain(), *FRAME),
    ("id", "evil", "plain", plain(priority=0), *FRAME),
    ("id", "evil", "plain", plain(priority=9), *FRAME),
    *(("id", "evil", "plain", plain(number=each), *FRAME) for each in (NAN, math.inf, -1.0, 0.5, HUGE)),
    *(("id", "evil", "plain", plain(published_s=each), *FRAME) for each in (NAN, math.inf, -HUGE)),
    *(("id", "evil", "plain", plain(taken_ms=each), *FRAME) for each in (0.5, NAN, math.inf, -1.0, HUGE)),
    *(("id", "evil", "plain", plain(expires_s=each), *FRAME) for each in (NAN, HUGE)),
    *(("id", "evil", "plain", plain(entered_s=each), *FRAME) for each in (NAN, -math.inf, HUGE)),
    ("id", "evil", "plain", "short", *FRAME),
    ("id", "evil", "plain", plain() * 2, *FRAME),
    ("id", "evil", "plain", plain()),
    ("id", "evil"),
    ("envelope", "evil", "id", plain(), "signature", "evil", "plain", "evil", "more", b"\xff"),
]


@asynccontextmanager
async def signed_bus(server: RedisServer) -> AsyncIterator[tuple[Rig, RedisBus, str]]:
    """A bus that signs what goes over it, and its namespace."""
    namespace, clock = f"hostile {next(_numbers)}", HandClock()
    keyring = Keyring([("default", b"a secret of more than thirty-two letters")])
    frames = LeylineFrames(keyring, "anna", clock)
    async with redis_bus(server, SIGNED, clock=clock, namespace=namespace, frames=frames) as rig:
        clock.now_s += 1.0
        assert isinstance(rig.bus, RedisBus)
        yield rig, rig.bus, namespace


async def publish_commands(bus: RedisBus, first: int, count: int) -> list[str]:
    ids = [f"e{n}" for n in range(first, first + count)]
    for event_id in ids:
        await bus.publish(topics.ADAPTATION_COMMAND, COMMAND, event_id=event_id)
    return ids


async def received(rig: Rig, bus: RedisBus, group: str, most: int = 100) -> list[str]:
    """All that a group is given, a few at a time."""
    ids: list[str] = []
    async with bus.subscribe(topics.ADAPTATION_COMMAND, group, "a") as consumer:
        for _ in range(ROUNDS):
            for each in await consumer.receive(most, wait_s=0):
                ids.append(each.event_id)
                each.ack()
    await rig.settle()
    return ids


@pytest.mark.parametrize(
    ("most", "fields"), [(1 if n % 8 == 0 else 100, each) for n, each in enumerate(FORGED)]
)
def test_a_forged_entry_is_refused_and_counted_and_its_neighbours_are_delivered(
    redis_server: RedisServer, most: int, fields: tuple[str | bytes, ...]
) -> None:
    async def scenario() -> None:
        async with signed_bus(redis_server) as (rig, bus, namespace):
            before = await publish_commands(bus, 0, 2)
            Stranger(redis_server, namespace, topics.ADAPTATION_COMMAND).add(4, *fields, groups=("g",))
            after = await publish_commands(bus, 2, 3)
            assert await received(rig, bus, "g", most) == [*before, *after]
            assert sum(bus.inbox.refused.values()) == 1
            (letter,) = await bus.dead_letters.list()
            assert (letter.group, letter.attempts) == ("g", 1)
            assert [each.event_id for each in await bus.history(topics.ADAPTATION_COMMAND)] == [
                *before,
                *after,
            ]
            await rig.let_pass(2.0)
            for group, ended in (("g", (5, 1)), ("h", (0, 0))):
                row = next(
                    each
                    for each in (await bus.refresh()).groups
                    if each.group == group and each.lane is Lane.NORMAL
                )
                assert (row.ledger.acked, row.ledger.dead_lettered) == ended
                assert row.ledger.pending == (0 if group == "g" else 5)

    asyncio.run(scenario())


def test_an_entry_of_which_no_group_has_a_record_is_turned_out_and_counted(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with signed_bus(redis_server) as (rig, bus, namespace):
            stranger = Stranger(redis_server, namespace, topics.ADAPTATION_COMMAND)
            stranger.add(4, "id", "evil", "plain", plain(), *FRAME)
            ids = await publish_commands(bus, 0, 2)
            stranger.add(4, "id", "evil", "plain", plain(), *FRAME)
            assert await received(rig, bus, "g") == ids
            assert refused(bus) == {UNKNOWN_ENTRY: 2}
            assert await received(rig, bus, "h") == ids
            assert refused(bus) == {UNKNOWN_ENTRY: 2}

    asyncio.run(scenario())


def test_a_raw_entry_is_counted_also_where_nobody_takes_anything(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with signed_bus(redis_server) as (rig, bus, namespace):
            ids = await publish_commands(bus, 0, 2)
            Stranger(redis_server, namespace, topics.ADAPTATION_COMMAND).add(
                0, "id", "evil", "plain", plain(), *FRAME
            )
            await rig.let_pass(6.0)
            assert refused(bus) == {UNKNOWN_ENTRY: 1}
            assert await received(rig, bus, "g") == ids

    asyncio.run(scenario())


def test_what_one_group_goes_without_is_nothing_strange(redis_server: RedisServer) -> None:
    policy = TopicPolicy(groups=("g",), capacity=2, overflow=Overflow.DROP_OLDEST, stall_after_s=None)

    async def scenario() -> None:
        async with redis_bus(redis_server, {"t": policy}) as rig:
            assert isinstance(rig.bus, RedisBus)
            lossy = rig.bus.subscribe("t", "observer", "o", lossy=True)
            late = rig.bus.subscribe("t", "late", "l")
            await rig.publish("t", range(9))
            await rig.let_pass(6.0)
            consumer = rig.bus.subscribe("t", "g", "a")
            for each in (lossy, consumer, late):
                assert await rig.ack_all(each) == [7, 8]
            assert rig.bus.inbox.refused == {}
            assert all(row.ledger.closes() for row in (await rig.bus.refresh()).groups)

    asyncio.run(scenario())


@pytest.mark.parametrize("lossy", [False, True])
def test_what_somebody_deleted_makes_room_like_what_is_dropped(
    redis_server: RedisServer, lossy: bool
) -> None:
    policy = TopicPolicy(capacity=1, overflow=Overflow.DROP_OLDEST, stall_after_s=None)
    namespace = f"hostile {next(_numbers)}"

    async def scenario() -> None:
        async with redis_bus(redis_server, {"t": policy}, namespace=namespace) as rig:
            consumer = rig.bus.subscribe("t", "g", "a", lossy=lossy)
            await rig.settle()
            await rig.publish("t", [0])
            Stranger(redis_server, namespace, "t").delete_all(4)
            await rig.publish("t", [1])
            assert await rig.ack_all(consumer) == [1]
            _, row = (await rig.metrics()).groups
            assert (row.ledger.published, row.ledger.dropped, row.ledger.acked) == (2, 1, 1)
            assert row.ledger.closes()

    asyncio.run(scenario())


def test_one_entry_that_makes_no_sense_does_not_spoil_the_answer_that_it_is_in() -> None:
    good = ["t", "4:1-0", "e1", 2, "normal", 1, 5.0, 9.0, 0, 1, 7]
    bad = ["t", "4:2-0", b"\xff", 2.5, "normal", 3, "x", 9.0, 0, 1, 0.5]
    told = given(msgspec.Raw(msgspec.msgpack.encode([[good, bad, good], 4])))
    assert isinstance(told, Given)
    assert [each.event_id for each in told.entries] == ["e1", "e1"]
    assert [(each.topic, each.key, each.attempt) for each in told.misshapen] == [("t", "4:2-0", 3)]
    assert told.strange == 4
    assert given(msgspec.Raw(msgspec.msgpack.encode(False))) is False
    with pytest.raises(ValueError, match="array"):
        given(msgspec.Raw(msgspec.msgpack.encode("nonsense")))


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
