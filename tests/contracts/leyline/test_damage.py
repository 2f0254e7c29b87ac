"""Whatever the bytes are, there is a message, or a `WireError` that says what and where."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.messages import LOOP_MESSAGES
from contracts.leyline.codec import TRUSTED_BYTES_MAX, decode, encode
from contracts.leyline.table import MESSAGES
from contracts.messages import FieldReport
from contracts.wire import FRAME_BYTES_MAX, WireError
from tests.contracts.leyline.bytes import (
    NO_UTF8,
    block,
    integer,
    least,
)
from tests.contracts.leyline.frames import canonical, check_frame, refused
from tests.contracts.leyline.strategies import WIRE, messages
from tests.examples import examples

NAMES = st.sampled_from(sorted(MESSAGES))


@settings(max_examples=examples(100, 3000))
@given(NAMES, st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(name: str, data: bytes) -> None:
    check_frame(name, data)


@settings(max_examples=examples(60, 2000))
@given(st.data())
def test_flipped_bits_give_a_message_or_are_refused(data: st.DataObject) -> None:
    name = data.draw(NAMES)
    frame = bytearray(encode(data.draw(messages(name))))
    places = st.integers(0, max(0, 8 * len(frame) - 1))
    for bit in data.draw(st.lists(places, max_size=3)) if frame else []:
        frame[bit // 8] ^= 1 << bit % 8
    check_frame(name, bytes(frame))


@settings(max_examples=examples(60, 2000))
@given(st.data())
def test_spliced_frames_give_a_message_or_are_refused(data: st.DataObject) -> None:
    """Pieces of valid frames, which make duplicates, lying lengths and unknown fields in plenty."""
    name, other = data.draw(NAMES), data.draw(NAMES)
    frames = [encode(data.draw(messages(one))) for one in (name, name, other)]
    cuts = [data.draw(st.integers(0, len(frame))) for frame in frames]
    check_frame(name, frames[0][: cuts[0]] + frames[1][cuts[1] :] + frames[2][: cuts[2]])


@pytest.mark.slow
@settings(max_examples=10_000)
@given(st.data())
def test_many_damaged_frames_give_a_message_or_are_refused(data: st.DataObject) -> None:
    name = data.draw(NAMES)
    frame = bytearray(encode(data.draw(messages(name))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(frame)))
        length = data.draw(st.integers(0, 3))
        frame[place : place + length] = data.draw(st.binary(max_size=4))
    check_frame(name, bytes(frame))


@pytest.mark.parametrize("name", LOOP_MESSAGES)
def test_a_frame_cut_off_anywhere_is_refused_or_ends_between_two_fields(name: str) -> None:
    frame = encode(LOOP_MESSAGES[name])
    whole = [size for size in range(len(frame)) if check_frame(name, frame[:size]) is not None]
    assert len(whole) < len(frame) / 4, "most cuts are inside a field"


def test_a_frame_of_the_largest_size_is_read_and_one_byte_more_is_refused_unparsed() -> None:
    frame = block(2, b"x" * (FRAME_BYTES_MAX - 4))
    assert len(frame) == FRAME_BYTES_MAX
    envelope = check_frame("BusEnvelope", frame)
    assert envelope is not None
    assert encode(envelope) == frame
    with pytest.raises(
        WireError, match=f"{FRAME_BYTES_MAX + 1} bytes; a frame holds at most {FRAME_BYTES_MAX}"
    ):
        decode(MESSAGES["BusEnvelope"], NO_UTF8 * (FRAME_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("SystemStatePacket", block(8, b"")),
        ("TelemetryPacket", block(10, b"")),
        ("EventEnvelope", block(21, b"")),
        (
            "AdaptationCommand",
            block(13, block(1, block(1, b"x") + block(2, block(6, block(1, integer(1, 0)))))),
        ),
    ],
)
def test_a_large_frame_of_many_small_parts_is_refused_for_their_number(name: str, part: bytes) -> None:
    frame = least(WIRE[name]) + part * ((FRAME_BYTES_MAX - 2) // len(part))
    text = refused(name, frame)
    assert text is not None
    assert "more than 8192 messages, entries and items" in text or "a second time" in text
    few = least(WIRE[name]) + part * (4 if name != "AdaptationCommand" else 1)
    assert check_frame(name, few) is not None, "a few of them are welcome"


def test_a_frame_just_above_the_size_that_is_scanned_first_is_read_too() -> None:
    keys = "".join(chr(letter) for letter in range(65, 91))
    metrics = {f"{a}{b}{c}": 1.0 for a in keys for b in keys for c in keys[:3]}
    report = FieldReport("r", "c", "t", "s", "b", LOOP_MESSAGES["FieldReport"].outcome, metrics, 1, 0, "p")
    assert len(encode(report)) > TRUSTED_BYTES_MAX
    assert canonical(decode(FieldReport, encode(report))) == canonical(report)
