"""Doors to a bus: addresses and secrets that can't be used are refused before anything is opened."""

import asyncio

import pytest

from actors.oona.bus import Outcome
from actors.oona.errors import QueueFullError
from actors.oona.memory import MemoryBus
from actors.oona.open import Door, door, open_bus, open_registry, try_door
from actors.oona.policy import Overflow
from actors.oona.telling import tell
from actors.oona.topics import RUN_BUS, TOPICS, run_topics
from actors.runtime import LoopClock
from contracts.topics import EMERGENCY, TELEMETRY
from esper.errors import BadSetup
from tests.actors.oona.rig import Note

SECRET = {"ESPER_LEYLINE_SECRET": "a secret of forty thieves"}


def test_memory_needs_no_server_and_signs_nothing() -> None:
    way = try_door("memory", SECRET)
    assert way.is_memory
    assert not way.signs
    assert Door("redis://127.0.0.1", way.keyring, "tests").signs


@pytest.mark.parametrize(
    ("address", "environ", "said"),
    [
        ("redis://127.0.0.1:1", {}, "no Redis can be reached at redis://127.0.0.1:1"),
        ("redis://me:sesame@127.0.0.1:1", {}, r"no Redis can be reached at redis://me:\*\*\*@127.0.0.1:1"),
        ("redis://:***@127.0.0.1:1", {}, "the password was left out .* with --bus"),
        ("memory", {"ESPER_LEYLINE_SECRET": "short"}, "ESPER_LEYLINE_SECRET can't be used"),
        ("memory", {**SECRET, "ESPER_LEYLINE_SECRETS": "a:b"}, "both set"),
    ],
)
def test_what_can_not_be_had_is_one_line(address: str, environ: dict[str, str], said: str) -> None:
    with pytest.raises(BadSetup, match=said) as caught:
        try_door(address, environ)
    assert "\n" not in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_bus_in_memory_is_open_for_the_length_of_a_block_and_in_no_registry() -> None:
    async def main() -> None:
        way = door("memory", {}, "tests")
        async with open_bus(way, "run", LoopClock(asyncio.get_running_loop())) as opened:
            assert isinstance(opened.bus, MemoryBus)
            await opened.retire(1.0)
        async with open_registry(way) as registry:
            assert registry is None

    asyncio.run(main())


def test_a_runs_topics_are_all_heard_by_nissa_and_keep_a_past() -> None:
    topics = run_topics()
    assert set(topics) == set(TOPICS)
    assert all(policy.history > 0 for policy in topics.values())
    groups = {name: policy.groups for name, policy in topics.items()}
    assert groups.pop(EMERGENCY) == ("nissa", "warden"), "a signal that was taken is acted upon"
    assert set(groups.values()) == {("nissa",)}


def test_telemetry_alone_may_be_shed_or_grow_old() -> None:
    for name, policy in run_topics().items():
        sheds = policy.overflow is Overflow.DROP_OLDEST
        assert sheds == (name == TELEMETRY), name
        assert (policy.ttl_s is not None) == (name == TELEMETRY), name


@pytest.mark.parametrize("topic", sorted(set(run_topics()) - {TELEMETRY, EMERGENCY}))
def test_what_finds_no_room_is_refused_at_once_and_what_was_taken_stays(topic: str) -> None:
    """Nobody reads: the publisher does not wait, and the oldest is still there."""

    async def main() -> None:
        bus = MemoryBus(run_topics(), LoopClock(asyncio.get_running_loop()), RUN_BUS)
        capacity = run_topics()[topic].capacity
        for number in range(capacity):
            bus.publish_nowait(topic, Note(number), event_id=f"e{number}")
        with pytest.raises(QueueFullError):
            bus.publish_nowait(topic, Note(capacity), event_id="one more")
        tell(bus, topic, Note(capacity), "one more")  # as a run does it
        reader = bus.subscribe(topic, "nissa", "nissa")
        (first,) = await reader.receive()
        assert first.event_id == "e0"
        first.ack()
        assert bus.publish_nowait(topic, Note(capacity), event_id="one more").outcome is Outcome.ACCEPTED
        await bus.close()

    asyncio.run(main())
