"""What loses nothing is accepted, however it is written."""

import random

import pytest

from bench.messages import LOOP_MESSAGES
from contracts.leyline.codec import decode, encode
from contracts.leyline.table import MESSAGES
from contracts.wire import WireError
from tests.contracts.leyline.bytes import (
    block,
    four,
    integer,
)
from tests.contracts.leyline.frames import canonical, check_frame, refused


@pytest.mark.parametrize("name", LOOP_MESSAGES)
def test_fields_may_come_in_any_order(name: str) -> None:
    frame, fields, at = encode(LOOP_MESSAGES[name]), [], 0
    for end in range(1, len(frame) + 1):
        if refused(name, frame[:end]) is None:
            fields.append(frame[at:end])
            at = end
    assert len({field[0] for field in fields}) > 4
    rng = random.Random(1)
    for _ in range(5):
        place = {field[0]: rng.random() for field in fields}  # by tag: the items of a list stay in order
        shuffled = b"".join(sorted(fields, key=lambda field, place=place: place[field[0]]))
        assert shuffled != frame
        assert canonical(decode(MESSAGES[name], shuffled)) == canonical(LOOP_MESSAGES[name])


def test_what_loses_nothing_is_accepted() -> None:
    """Long integers, integers wider than their field, defaults written out, entries without key or value."""
    seed = LOOP_MESSAGES["SystemStatePacket"].seed_states[0]
    assert seed.layer_depth == 0
    frame = encode(seed)
    assert canonical(decode(type(seed), frame + integer(5, 0))) == canonical(seed), "a default, written out"
    for size in (2, 5, 10):
        same = frame + integer(5, 0, size)
        assert canonical(check_frame("SeedState", same)) == canonical(seed), "a long zero"
    wide = check_frame("SeedState", integer(5, 2**34 + 7) + integer(7, 2**63 + 3))
    assert (wide.layer_depth, wide.age_epochs) == (7, 3)
    bare = check_frame("SeedState", block(6, four(2)) + block(6, block(1, b"k")))
    assert bare.metrics == {"": 1.0, "k": 0.0}
    assert check_frame("BlueprintDescriptor", integer(7, 2)).quarantine_only is True


def test_an_absent_message_is_one_of_defaults_and_an_absent_time_is_0() -> None:
    state = check_frame("SystemStatePacket", integer(1, 1))
    empty = check_frame("SystemStatePacket", integer(1, 1) + block(6, b""))
    assert canonical(state) == canonical(empty)
    assert (state.hardware_context.device_type, state.timestamp_ns, state.source_subsystem) == ("", 0, "")
    packet = check_frame("TelemetryPacket", b"")
    assert (packet.timestamp, packet.system_health) == (0, None)
    assert check_frame("TelemetryPacket", block(40, b"")).system_health is not None
    envelope = check_frame("EventEnvelope", block(6, b""))
    assert (envelope.ttl, envelope.processing_deadline) == (0, None)


@pytest.mark.parametrize(
    ("name", "number", "seconds", "nanos", "ns"),
    [
        ("KernelPrefetchRequest", 4, -1, 999_999_999, -1),
        ("KernelPrefetchRequest", 4, 1_757_000_000, 123_456_789, 1_757_000_000_123_456_789),
        ("KernelPrefetchRequest", 4, -62_135_596_800, 0, -62_135_596_800 * 10**9),
        ("KernelPrefetchRequest", 4, 253_402_300_799, 999_999_999, 253_402_300_799_999_999_999),
        ("KernelPrefetchRequest", 4, 253_402_300_800, 0, None),
        ("KernelPrefetchRequest", 4, -62_135_596_801, 0, None),
        ("KernelPrefetchRequest", 4, 0, -1, None),
        ("KernelPrefetchRequest", 4, 0, 10**9, None),
        ("EventEnvelope", 6, -1, -1, -1_000_000_001),
        ("EventEnvelope", 6, 315_576_000_000, 0, 315_576_000_000 * 10**9),
        ("EventEnvelope", 6, 315_576_000_000, 1, None),
        ("EventEnvelope", 6, 1, -1, None),
        ("EventEnvelope", 6, 0, -(10**9), None),
    ],
)
def test_times_keep_their_nanoseconds_and_what_is_no_time_is_refused(
    name: str, number: int, seconds: int, nanos: int, ns: int | None
) -> None:
    content = integer(1, seconds % 2**64) + integer(2, nanos % 2**64)
    message = check_frame(name, block(number, content))
    if ns is None:
        assert message is None
        text = refused(name, block(number, content))
        assert text is not None
        assert f"{'issued_at' if number == 4 else 'ttl'} at byte 0: no " in text
    else:
        assert ns in (getattr(message, "issued_at", None), getattr(message, "ttl", None))


@pytest.mark.parametrize("data", [bytearray(b""), memoryview(b""), "text", None, 7])
def test_what_is_no_bytes_is_refused(data: object) -> None:
    with pytest.raises(WireError, match="a frame is bytes; this is a"):
        decode(MESSAGES["TraceSpan"], data)  # type: ignore[arg-type]


def test_a_type_that_is_no_message_is_refused() -> None:
    with pytest.raises(WireError, match="int is no message of Leyline"):
        decode(int, b"")  # type: ignore[type-var]
