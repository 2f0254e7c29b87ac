"""Frames arrive whole however the bytes are cut, and nothing else passes for one."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tezzeret.frames import (
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    MAGIC,
    PREFIX_BYTES,
    SMALL_BYTES_MAX,
    BadFrame,
    Decoder,
    Frame,
    Kind,
    encode,
)

FRAMES = st.one_of(
    st.builds(
        Frame, st.sampled_from([Kind.JOB, Kind.ANSWER]), st.binary(max_size=40), st.binary(max_size=80)
    ),
    st.builds(
        Frame, st.sampled_from([Kind.HELLO, Kind.READY, Kind.PROGRESS, Kind.ERROR]), st.binary(max_size=40)
    ),
)


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, frames))
    decoder, came, turn = Decoder(), [], 0
    while data:
        size = cuts[turn % len(cuts)]
        came += decoder.feed(data[:size])
        data, turn = data[size:], turn + 1
    assert came == frames
    assert not decoder.halfway


@given(FRAMES, st.data())
def test_a_cut_off_frame_is_no_frame_yet(frame: Frame, draw: st.DataObject) -> None:
    data = encode(frame)
    size = draw.draw(st.integers(1, len(data) - 1))
    decoder = Decoder()
    assert decoder.feed(data[:size]) == []
    assert decoder.halfway
    assert decoder.feed(data[size:]) == [frame]


@given(st.binary(min_size=PREFIX_BYTES, max_size=64).filter(lambda data: not data.startswith(MAGIC)))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadFrame, match="no frame"):
        Decoder().feed(data)


@pytest.mark.parametrize(
    ("kind", "header", "body"),
    [
        (Kind.JOB, HEADER_BYTES_MAX + 1, 0),
        (Kind.ANSWER, 0, BODY_BYTES_MAX + 1),
        (Kind.PROGRESS, SMALL_BYTES_MAX + 1, 0),
        (Kind.ERROR, 1, 1),
    ],
)
def test_a_length_above_its_bound_is_refused_from_the_prefix_alone(
    kind: Kind, header: int, body: int
) -> None:
    with pytest.raises(BadFrame, match="too large"):
        Decoder().feed(struct.pack(">4sBII", MAGIC, kind, header, body))
    with pytest.raises(BadFrame, match="too large"):
        encode(Frame(kind, bytes(header), bytes(body)))
