"""A signed dead letter that is given out once more is believed, however long it lay."""

import asyncio
from typing import Final

import pytest

from actors.oona.policy import TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import Frame, LeylineFrames
from actors.oona.redis.options import RedisOptions
from contracts import topics
from contracts.messages import AdaptationCommand, CommandType
from contracts.signing.keyring import Keyring
from contracts.signing.refusal import Refusal, SignatureRefused
from contracts.wire import WireError
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import HandClock

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
        options = RedisOptions(own_clock=True, dead_after_s=1e9)

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
