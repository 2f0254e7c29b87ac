"""However a frame is made, reading it takes memory that its own largest size bounds."""

import tracemalloc
from collections.abc import Callable

import pytest

from contracts.leyline.codec import TRUSTED_BYTES_MAX, decode
from contracts.leyline.table import MESSAGES
from contracts.wire import FRAME_BYTES_MAX, WireError
from tests.contracts.leyline.bytes import block, entry, four, integer

MULTIPLE = 10
"""Largest frames that reading one may take at its peak, of what Python allocates."""


def many(part: Callable[[int], bytes], size: int) -> bytes:
    """Parts until `size` bytes are full."""
    parts, left, number = [], size, 0
    while left >= len(one := part(number)):
        parts.append(one)
        left -= len(one)
        number += 1
    return b"".join(parts)


def peak_bytes(name: str, frame: bytes) -> int:
    """What decoding takes at its peak beside the frame, whether it succeeds or not."""
    tracemalloc.start()
    try:
        decode(MESSAGES[name], frame)
    except WireError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("size", [TRUSTED_BYTES_MAX, FRAME_BYTES_MAX])
@pytest.mark.parametrize(
    ("name", "start", "part"),
    [
        ("SystemStatePacket", integer(1, 1), lambda number: block(8, b"")),
        ("SystemStatePacket", integer(1, 1), lambda number: block(8, block(6, b""))),
        ("SystemStatePacket", integer(1, 1), lambda number: entry(7, b"%x" % number, b"")),
        ("SystemStatePacket", integer(1, 1), lambda number: entry(7, b"%060x" % number, four(2))),
        ("TelemetryPacket", b"", lambda number: block(10, b"")),
        ("TelemetryPacket", b"", lambda number: block(30, block(4, b"") + block(5, b""))),
        ("EventEnvelope", b"", lambda number: block(21, b"")),
        ("EventEnvelope", b"", lambda number: block(21, b"x" * 60)),
        ("BusEnvelope", b"", lambda number: entry(3, b"%x" % number, block(2, b""))),
        ("BlueprintDescriptor", b"", lambda number: entry(4, b"%x" % number, block(2, b""))),
        ("MetricPoint", b"", lambda number: integer(99, 1)),
        ("MetricPoint", b"", lambda number: b"\x0b"),
    ],
)
def test_many_small_parts_take_a_small_multiple_of_the_largest_frame(
    name: str, start: bytes, part: Callable[[int], bytes], size: int
) -> None:
    frame = start + many(part, size - len(start))
    assert peak_bytes(name, frame) < MULTIPLE * FRAME_BYTES_MAX


@pytest.mark.parametrize("items", [1000, 60_000])
def test_details_of_many_nulls_take_a_small_multiple_of_the_largest_frame(items: int) -> None:
    nulls = block(1, integer(1, 0)) * items
    frame = integer(1, 1) + block(13, entry(1, b"", block(2, block(6, nulls))))
    assert len(frame) < FRAME_BYTES_MAX
    assert peak_bytes("AdaptationCommand", frame) < MULTIPLE * FRAME_BYTES_MAX


def test_a_frame_of_one_large_part_takes_three_times_itself() -> None:
    frame = block(2, b"x" * (FRAME_BYTES_MAX - 4))
    assert peak_bytes("BusEnvelope", frame) < 3 * FRAME_BYTES_MAX
