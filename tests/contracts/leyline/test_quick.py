"""The quick way to see that a frame holds no more than its message accepts what the thorough way accepts."""

from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings

from bench.messages import LOOP_MESSAGES
from contracts.leyline import codec
from contracts.leyline import leyline_pb2 as pb
from contracts.leyline.codec import decode, encode
from contracts.leyline.kinds import messages_in
from contracts.leyline.table import MESSAGES
from contracts.leyline.twin import lacks_nothing, twin_of
from contracts.wire import WireError
from tests.contracts.leyline.bytes import block, four, integer
from tests.contracts.leyline.frames import canonical, plain
from tests.contracts.leyline.strategies import messages
from tests.examples import examples

WITH_MAPS = sorted(
    name
    for name in MESSAGES
    if any(each.GetOptions().map_entry for each in messages_in(getattr(pb, name).DESCRIPTOR))
)
NAMES = st.sampled_from(WITH_MAPS)


def thorough(name: str, wire: Message, data: bytes) -> bool:
    """Whether all that is in the frame came to be in its message, without looking at how it is written."""
    wire.DiscardUnknownFields()
    return wire.ByteSize() == len(data) and lacks_nothing(twin_of(getattr(pb, name).DESCRIPTOR)(), data)


def judged(name: str, data: bytes) -> object:
    """The message, or why it is refused."""
    try:
        return canonical(decode(MESSAGES[name], data))
    except WireError as refusal:
        return str(refusal)


def check_same(name: str, data: bytes) -> None:
    with patch.object(codec, "_nothing_dropped", lambda _, wire, frame: thorough(name, wire, frame)):
        expected = judged(name, data)
    assert judged(name, data) == expected
    wire = getattr(pb, name)()
    try:
        wire.ParseFromString(data)
    except DecodeError:
        return
    wire.DiscardUnknownFields()
    if wire.SerializeToString(deterministic=True) == data:
        assert thorough(name, wire, data), "what is written the same again held nothing more"


@settings(max_examples=examples(60, 3000))
@given(st.data())
def test_damaged_frames_are_judged_alike(data: st.DataObject) -> None:
    name = data.draw(NAMES)
    frame = bytearray(encode(data.draw(messages(name))))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(frame)))
        frame[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    check_same(name, bytes(frame))


EXTRAS = [
    b"",
    block(99, b"ab"),
    integer(15, 1),
    block(6, b""),
    block(6, four(2)),
    block(6, block(1, b"k")),
    integer(2, 0),
]


@settings(max_examples=examples(60, 3000))
@given(st.data())
def test_frames_with_something_more_are_judged_alike(data: st.DataObject) -> None:
    """Pieces of two frames, unknown fields, defaults written out and entries that lack something."""
    name = data.draw(NAMES)
    first, second = (encode(data.draw(messages(name))) for _ in range(2))
    cut = data.draw(st.integers(0, len(second)))
    extra = data.draw(st.lists(st.sampled_from(EXTRAS), max_size=2))
    check_same(name, first + second[cut:] + b"".join(extra))


@settings(max_examples=examples(30, 1000))
@given(st.data())
def test_an_unknown_field_where_it_would_be_written_again_is_refused(data: st.DataObject) -> None:
    """protobuf keeps what it does not know and writes it after all else: the frame would look the same."""
    name = data.draw(NAMES)
    frame = encode(data.draw(messages(name))) + block(99, b"ab")
    assert getattr(pb, name).FromString(frame).SerializeToString(deterministic=True) == frame
    assert "unknown field 99" in str(judged(name, frame))
    check_same(name, frame)


@pytest.mark.parametrize("name", sorted(set(WITH_MAPS) & set(LOOP_MESSAGES)))
def test_what_encode_gives_needs_no_twin_and_other_orders_are_read_with_it(name: str) -> None:
    message = LOOP_MESSAGES[name]
    with patch.object(codec, "lacks_nothing", side_effect=AssertionError):
        assert canonical(decode(type(message), encode(message))) == canonical(message)
    other = plain(message).SerializeToString()
    assert canonical(decode(type(message), other)) == canonical(message)
