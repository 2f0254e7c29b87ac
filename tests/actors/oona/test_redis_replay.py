"""What was signed is done once, whoever says it again; a dead letter is believed, however long it lay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import pytest

from actors.oona.policy import TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.delivery import RedisDelivery
from actors.oona.redis.frames import Frame, LeylineFrames
from actors.oona.redis.settled import Settled
from actors.oona.redis.subscription import RedisSubscription
from contracts import topics
from contracts.messages import AdaptationCommand, CommandType, EmergencyLevel, EmergencySignal
from contracts.signing.keyring import Keyring
from contracts.signing.refusal import Refusal, SignatureRefused
from contracts.wire import WireError
from tests.actors.oona.patience import PATIENT
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import HandClock
from tests.actors.oona.strangers import Stranger

ENVIRONMENT: Final = {"ESPER_LEYLINE_SECRET": "a secret of more than thirty-two letters"}
TOPIC: Final = topics.ADAPTATION_COMMAND
POLICY: Final = TopicPolicy(groups=("g",), attempts_max=1, stall_after_s=None)
COMMAND: Final = AdaptationCommand("c1", CommandType.PAUSE, 1, "tamiyo")


def frames(clock: HandClock, sender: str) -> LeylineFrames:
    return LeylineFrames(Keyring.from_environment(ENVIRONMENT), sender, clock)


def test_a_commands_dead_letter_replayed_after_its_minute_is_taken_by_another_process(
    redis_server: RedisServer,
) -> None:
    async def scenario() -> None:
        clock = HandClock()
        options = msgspec.structs.replace(PATIENT, own_clock=True, dead_after_s=1e9)

        async def opened(sender: str) -> RedisBus:
            return await RedisBus.open(
                redis_server.address,
                "replayed",
                {TOPIC: POLICY},
                clock,
                frames(clock, sender),
                options=options,
            )

        sender, other = await opened("tamiyo"), await opened("somebody-else")
        clock.now_s += 1
        first = sender.subscribe(TOPIC, "g", "first")
        await sender.publish(TOPIC, COMMAND, event_id="c1")
        (delivery,) = await first.receive()
        delivery.nack(error="it failed")
        first.close()
        await sender.flush()
        clock.now_s += 3_600
        (letter,) = await other.dead_letters.list()
        await other.dead_letters.replay(letter.letter_id)
        (again,) = await other.subscribe(TOPIC, "g", "second").receive()
        assert again.message == COMMAND
        assert other.metrics().link.refused == {}  # type: ignore[union-attr]
        again.ack()
        await other.close()
        await sender.close()

    asyncio.run(scenario())


def test_without_a_new_signature_it_would_be_stale_and_one_that_never_held_is_not_made_anew() -> None:
    clock = HandClock()
    sender, reader = frames(clock, "tamiyo"), frames(clock, "reader")
    clock.now_s += 1
    envelope = sender.encode(TOPIC, "c1", Priority.NORMAL, COMMAND)
    old = Frame(envelope, sender.sign(envelope))
    clock.now_s += 3_600
    with pytest.raises(SignatureRefused) as caught:
        reader.decode(TOPIC, "c1", Priority.NORMAL, old, clock.wall_ns())
    assert caught.value.reason is Refusal.STALE
    new = Frame(envelope, reader.sign_anew(old))
    assert reader.decode(TOPIC, "c1", Priority.NORMAL, new, clock.wall_ns()) == COMMAND
    assert reader.sign_anew(Frame(envelope + b"x", old.signature)) == b""
    assert reader.sign_anew(Frame(envelope, b"")) == b""


def test_a_copy_that_is_read_first_under_another_id_does_not_spoil_the_true_one() -> None:
    clock = HandClock()
    sender, reader = frames(clock, "tamiyo"), frames(clock, "reader")
    clock.now_s += 1
    envelope = sender.encode(TOPIC, "c1", Priority.NORMAL, COMMAND)
    frame = Frame(envelope, sender.sign(envelope))
    with pytest.raises(WireError, match="and the entry it came in says"):
        reader.decode(TOPIC, "c2", Priority.NORMAL, frame, clock.wall_ns())
    assert reader.admission.remembered == 0
    assert reader.decode(TOPIC, "c1", Priority.NORMAL, frame, clock.wall_ns()) == COMMAND
    assert reader.admission.counts.admitted == 1


ANNA: Final = topics.EMERGENCY
SIGNAL: Final = EmergencySignal(EmergencyLevel.HALT, "now", "anna", 1)
HISTORY: Final = TopicPolicy(groups=("g",), stall_after_s=None, history=8)


@asynccontextmanager
async def said_once(server: RedisServer, namespace: str) -> AsyncIterator[tuple[RedisBus, RedisDelivery]]:
    """A signed signal in the hands of who acts on it."""
    clock = HandClock()
    options = msgspec.structs.replace(PATIENT, own_clock=True, dead_after_s=1e9)
    bus = await RedisBus.open(
        server.address, namespace, {ANNA: HISTORY}, clock, frames(clock, "anna"), options=options
    )
    clock.now_s += 1
    consumer = bus.subscribe(ANNA, "g", "one")
    await bus.publish(ANNA, SIGNAL, priority=Priority.EMERGENCY, event_id="e1")
    (delivery,) = await consumer.receive()
    yield bus, delivery
    await bus.close()


async def said_next(bus: RedisBus, consumer: RedisSubscription, event_id: str) -> list[str]:
    """What is received until a new signal comes."""
    await bus.publish(ANNA, SIGNAL, priority=Priority.EMERGENCY, event_id=event_id)
    received: list[str] = []
    while event_id not in received:
        deliveries = await consumer.receive(8)
        received += [each.event_id for each in deliveries]
        for each in deliveries:
            each.ack()
    return received


@pytest.mark.parametrize("later_s", [0.0, 5.0, 3_600.0])
def test_whoever_holds_no_secret_makes_nobody_act_twice_on_what_was_signed_once(
    redis_server: RedisServer, later_s: float
) -> None:
    async def scenario() -> None:
        namespace = f"said again {later_s}"
        async with said_once(redis_server, namespace) as (bus, delivery):
            delivery.ack()
            await bus.flush()
            Stranger(redis_server, namespace, ANNA).say_again(0, "e1", ("g",), 1_000.0 + later_s)
            other = bus.subscribe(ANNA, "g", "two")
            assert await said_next(bus, other, "e2") == ["e2"]
            await bus.flush()
            assert list(await bus.dead_letters.list()) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("acked", [True, False])
def test_a_copy_of_what_is_in_hand_waits_for_what_becomes_of_that(
    redis_server: RedisServer, acked: bool
) -> None:
    async def scenario() -> None:
        namespace = f"in hand {acked}"
        async with said_once(redis_server, namespace) as (bus, delivery):
            Stranger(redis_server, namespace, ANNA).say_again(0, "e1", ("g",), 1_000.0)
            other = bus.subscribe(ANNA, "g", "two")
            assert await said_next(bus, other, "e2") == ["e2"], "e1 is in hand"
            if acked:
                delivery.ack()
                assert await said_next(bus, other, "e3") == ["e3"]
            else:
                delivery.nack(delay_s=600.0)
                assert await said_next(bus, other, "e3") == ["e1", "e3"], "nobody did it yet"

    asyncio.run(scenario())


def test_what_was_done_is_done_whoever_signs_it_anew_and_not_done_elsewhere() -> None:
    clock = HandClock()
    sender, reader = frames(clock, "anna"), frames(clock, "reader")
    clock.now_s += 1
    envelope = sender.encode(TOPIC, "c1", Priority.NORMAL, COMMAND)
    done, other = Settled(10, "g", reader.admission), Settled(10, "h", reader.admission)
    for _ in range(2):
        frame = Frame(envelope, sender.sign(envelope))
        assert reader.decode(TOPIC, "c1", Priority.NORMAL, frame, clock.wall_ns()) == COMMAND
        done.add((TOPIC, "c1"), 5.0)
        assert done.knows((TOPIC, "c1"), 7_000.0)
        assert not other.knows((TOPIC, "c1"), 5.0)
        assert not done.knows((TOPIC, "c2"), 5.0)
