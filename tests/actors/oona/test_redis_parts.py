"""The small parts of the Redis back end: its clock, what it remembers as done, frames, addresses, answers."""

import asyncio
from typing import NamedTuple

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from actors.oona.errors import BusUnfitError
from actors.oona.priority import Priority
from actors.oona.redis import wire
from actors.oona.redis.address import Address
from actors.oona.redis.clock import ServerClock
from actors.oona.redis.frames import KINDS, Frame, LeylineFrames
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.settled import Claim, Settled
from contracts import topics
from contracts.envelopes import BusEnvelope, BusMessageType
from contracts.leyline.codec import decode, encode
from contracts.messages import FieldReport, FieldReportOutcome
from contracts.signing.keyring import Keyring
from contracts.signing.refusal import Refusal, SignatureRefused
from contracts.wire import WireError
from tests.actors.oona.rig import HandClock

REPORT = FieldReport("r", "c", "run", "seed", "bp", FieldReportOutcome.SUCCESS, {"gain": 0.5}, 3, 1, "p1")
WALL_NS = 100 * 10**9
ENVIRONMENT = {"ESPER_LEYLINE_SECRET": "a secret of more than thirty-two letters"}


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(-20, 20)), max_size=20))
def test_the_bus_clock_never_goes_back_and_comes_to_the_servers(
    moves: list[tuple[float, float]],
) -> None:
    own = HandClock()
    clock = ServerClock(own)
    last_s = clock.monotonic()
    server_s = 0.0
    for n, (elapsed_s, off_s) in enumerate(moves):
        own.now_s += elapsed_s
        server_s = 1_000_000.0 + own.now_s + off_s
        clock.set(server_s)
        assert n == 0 or clock.monotonic() >= last_s
        last_s = clock.monotonic()
    own.now_s += 1_000
    if moves:
        assert clock.monotonic() == pytest.approx(server_s + 1_000)


def test_the_bus_clock_takes_the_servers_time_at_once_when_it_is_behind() -> None:
    own = HandClock()
    clock = ServerClock(own)
    clock.set(5_000.0)
    own.now_s += 1
    assert clock.monotonic() == 5_001.0
    clock.set(6_000.0)
    assert clock.monotonic() == 6_000.0


def test_while_it_is_ahead_it_runs_at_half_speed() -> None:
    own = HandClock()
    clock = ServerClock(own)
    clock.set(5_000.0)
    clock.set(4_990.0)
    own.now_s += 10
    assert clock.monotonic() == 5_005.0
    own.now_s += 90
    assert clock.monotonic() == 5_090.0


def test_the_bus_clock_is_set_again_only_when_it_can_not_be_right() -> None:
    own = HandClock()
    clock = ServerClock(own)
    clock.set(5_000.0)
    own.now_s += 10
    clock.check(5_009.9, waited_s=0.2)
    assert clock.monotonic() == 5_010.0, "the server may well have said that in the meantime"
    clock.check(5_012.0, waited_s=0.2)
    assert clock.monotonic() == pytest.approx(5_012.1)
    clock.check(5_011.0, waited_s=0.2)
    assert clock.monotonic() == pytest.approx(5_012.1), "it does not go back"
    own.now_s += 10
    assert clock.monotonic() == pytest.approx(5_021.1)


def test_what_was_done_is_known_again_by_its_publication() -> None:
    done = Settled(10)
    done.add(("t", "one"), 5.0)
    assert done.knows(("t", "one"), 5.0)
    assert not done.knows(("t", "one"), 6.0), "a dead letter that somebody wants done again"
    assert not done.knows(("u", "one"), 5.0)


def test_what_was_done_under_a_server_that_lost_its_data_is_done_however_it_comes_again() -> None:
    done = Settled(10)
    done.add(("t", "one"), 5.0)
    done.new_server()
    assert done.knows(("t", "one"), 6.0)
    done.add(("t", "one"), 6.0)
    assert not done.knows(("t", "one"), 7.0)


class Held(NamedTuple):
    """Something that a consumer has in hand."""

    key: str
    due_s: float = 10.0
    name: tuple[str, str] = ("t", "one")
    published_s: float = 5.0


def test_a_message_that_is_in_hand_has_a_twin_in_another_entry_until_it_is_let_go_or_overdue() -> None:
    done, first, again, twin = Settled(10), Held("4:1-0"), Held("4:1-0"), Held("4:2-0")
    assert done.take(first, 9.0) is Claim.TAKEN
    assert done.take(twin, 9.0) is Claim.TWIN
    assert done.take(twin._replace(name=("t", "two")), 9.0) is Claim.TAKEN
    assert done.take(again, 9.0) is Claim.TAKEN, "it is given out once more, and that is no twin"
    done.let_go(first)
    assert done.take(twin, 9.0) is Claim.TWIN, "the second time it is still in hand"
    done.let_go(again)
    assert done.take(twin, 9.0) is Claim.TAKEN
    assert done.take(first, 10.0) is Claim.TAKEN, "the twin is overdue"
    done.add(("t", "one"), 5.0)
    assert done.take(twin, 10.0) is Claim.DONE


def test_only_the_last_ids_are_remembered_as_done() -> None:
    done = Settled(3)
    for n in range(100):
        done.add(("t", str(n)), 0.0)
    assert len(done) == 3
    assert [done.knows(("t", str(n)), 0.0) for n in (96, 97, 99)] == [False, True, True]


def test_a_hung_server_is_given_half_a_second() -> None:
    """What the README states; the tests of hung servers hold every call to it."""
    assert RedisOptions().deadline_s == 0.5


@pytest.mark.parametrize(
    "address", ["", "http://127.0.0.1", "redis://host:port", "redis://u:geheim@127.0.0.1:999999x", "nonsense"]
)
def test_an_address_that_makes_no_sense_is_refused_and_no_password_shown(address: str) -> None:
    with pytest.raises(BusUnfitError, match=r"is no address of a Redis .* it takes redis://") as caught:
        Address(address)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["redis://u:geheim@h:1/2", "rediss://:geheim@h", "unix://u:geheim@/s?db=1"]
)
def test_an_address_is_shown_without_its_password(address: str) -> None:
    shown = Address(address).shown
    assert "geheim" not in shown
    assert shown.startswith(address.partition("://")[0])


@given(st.lists(st.binary(max_size=50), max_size=4) | st.binary() | st.none() | st.integers())
def test_an_answer_that_is_none_of_ours_is_one_clear_error(answer: object) -> None:
    with pytest.raises(ValueError, match="is not one of the bus's script"):
        wire.reply(answer)


def test_an_answer_is_unpacked() -> None:
    head = msgspec.msgpack.encode(["ok", "g", 3, True, "too deep", 1, 5, 9])
    results = msgspec.msgpack.encode([["accepted", "4:1-0"], ["full", [["g", "normal", 2, 1, 2]]], ["shed"]])
    answer = wire.reply([head, results, b"blob"])
    assert (answer.head.generation, answer.head.batch, answer.blobs) == ("g", 3, [b"blob"])
    assert answer.head.conservative
    published = [wire.decoder(wire.Published).decode(each) for each in answer.results]
    assert [each.what for each in published] == ["accepted", "full", "shed"]
    assert published[0].keys == "4:1-0"
    assert published[1].full == [wire.Fullness("g", "normal", 2, 1, 2)]


# Frames


def frames(environment: dict[str, str] | None = None, clock: HandClock | None = None) -> LeylineFrames:
    keyring = Keyring.from_environment(ENVIRONMENT if environment is None else environment)
    return LeylineFrames(keyring, "tests", HandClock() if clock is None else clock)


def framed(codec: LeylineFrames) -> Frame:
    envelope = codec.encode(topics.FIELD_REPORT, "e1", Priority.NORMAL, REPORT)
    return Frame(envelope, codec.sign(envelope))


@pytest.mark.parametrize("environment", [{}, ENVIRONMENT])
def test_a_message_comes_through_its_frame(environment: dict[str, str]) -> None:
    codec = frames(environment)
    frame = framed(codec)
    assert bool(frame.signature) == bool(environment)
    read = codec.decode(topics.FIELD_REPORT, "e1", Priority.NORMAL, frame, WALL_NS)
    assert read == REPORT
    envelope = decode(BusEnvelope, frame.envelope)
    assert envelope.message_type is BusMessageType.FIELD_REPORT
    assert decode(FieldReport, envelope.payload) == REPORT


@pytest.mark.parametrize(
    ("topic", "event_id", "priority"),
    [
        (topics.TELEMETRY, "e1", Priority.NORMAL),
        (topics.FIELD_REPORT, "e2", Priority.NORMAL),
        (topics.FIELD_REPORT, "e1", Priority.CRITICAL),
    ],
)
def test_a_frame_found_under_another_name_is_refused(topic: str, event_id: str, priority: Priority) -> None:
    codec = frames()
    with pytest.raises(WireError, match="and the entry it came in says"):
        codec.decode(topic, event_id, priority, framed(codec), WALL_NS)


def test_an_unsigned_frame_is_refused_once_there_is_a_secret() -> None:
    frame = framed(frames({}))
    for past in (False, True):
        with pytest.raises(SignatureRefused) as caught:
            frames().decode(topics.FIELD_REPORT, "e1", Priority.NORMAL, frame, WALL_NS, past)
        assert caught.value.reason is Refusal.UNSIGNED


def test_an_old_frame_is_stale_to_who_acts_on_it_and_not_to_who_looks_back() -> None:
    frame, later = framed(frames()), HandClock()
    later.now_s += 3_600
    reader = frames(clock=later)
    with pytest.raises(SignatureRefused):
        reader.decode(topics.FIELD_REPORT, "e1", Priority.NORMAL, frame, WALL_NS + 3_600 * 10**9)
    assert reader.decode(topics.FIELD_REPORT, "e1", Priority.NORMAL, frame, 0, past=True) == REPORT


def test_what_waited_on_the_server_is_admitted_hours_later() -> None:
    frame, later = framed(frames()), HandClock()
    later.now_s += 3_600
    read = frames(clock=later).decode(topics.FIELD_REPORT, "e1", Priority.NORMAL, frame, WALL_NS)
    assert read == REPORT


def test_an_envelope_of_no_known_kind_is_refused() -> None:
    attributes = {"topic": "t", "event_id": "e", "priority": "2"}
    envelope = encode(BusEnvelope(BusMessageType.UNSPECIFIED, b"", attributes))
    with pytest.raises(WireError, match="is no message of the bus"):
        frames({}).decode("t", "e", Priority.NORMAL, Frame(envelope, b""), 0)


def test_every_kind_of_bus_message_has_its_struct() -> None:
    assert set(KINDS) == set(BusMessageType) - {BusMessageType.UNSPECIFIED}
    assert len(set(KINDS.values())) == len(KINDS)


def test_what_is_no_message_of_leyline_does_not_travel() -> None:
    class Odd(msgspec.Struct):
        pass

    with pytest.raises(WireError, match="a Odd does not travel on the bus"):
        frames({}).encode("t", "e", Priority.NORMAL, Odd())


def test_the_clock_sleeps_as_its_own_does() -> None:
    async def scenario() -> bool:
        own = HandClock()
        task = asyncio.create_task(ServerClock(own).sleep(5))
        await own.advance(4.9)
        assert not task.done()
        await own.advance(0.2)
        return task.done()

    assert asyncio.run(scenario())


def test_the_same_message_under_the_same_id_is_the_same_bytes_whenever_it_is_encoded() -> None:
    clock = HandClock()
    frames = LeylineFrames(Keyring.from_environment(ENVIRONMENT), "esper-run", clock)
    figures = {f"figure {n}": float(n) for n in range(40)}
    one = msgspec.structs.replace(REPORT, metrics=figures)
    other = msgspec.structs.replace(REPORT, metrics=dict(reversed(figures.items())))
    first = frames.encode(topics.FIELD_REPORT, "id", Priority.NORMAL, one)
    clock.now_s += 100
    assert frames.encode(topics.FIELD_REPORT, "id", Priority.NORMAL, other) == first
