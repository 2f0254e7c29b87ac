"""However a frame is made, reading it takes no more memory than a small multiple of its own size."""

import tracemalloc
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec.structs import replace

from contracts.leyline.codec import TRUSTED_BYTES_MAX, decode, encode
from contracts.leyline.scan import PARTS_MAX, scan
from contracts.leyline.schema import sieve
from contracts.leyline.table import MESSAGES
from contracts.leyline.weight import weight_max
from contracts.lifecycle import Stage
from contracts.messages import MetricPoint, SeedState, SystemState, TelemetryPacket
from contracts.wire import FRAME_BYTES_MAX, WireError
from tests.contracts.leyline.bytes import block, entry, four, integer

MULTIPLES = {1024: 60, 4096: 32, TRUSTED_BYTES_MAX: 28, FRAME_BYTES_MAX: 12}
"""Times its size that reading a frame may take at its peak, of what Python allocates, by its size."""


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


Part = Callable[[int], bytes]
PARTS: list[tuple[str, bytes, Part]] = [
    ("SystemStatePacket", integer(1, 1), lambda number: block(8, b"")),
    ("SystemStatePacket", integer(1, 1), lambda number: block(8, block(6, b""))),
    ("SystemStatePacket", integer(1, 1), lambda number: entry(7, b"%x" % number, b"")),
    ("SystemStatePacket", integer(1, 1), lambda number: entry(7, b"%x" % number, four(2))),
    ("SystemStatePacket", integer(1, 1), lambda number: entry(7, b"%060x" % number, four(2))),
    ("TelemetryPacket", b"", lambda number: block(10, b"")),
    ("TelemetryPacket", b"", lambda number: block(10, block(1, b"%x" % number))),
    ("TelemetryPacket", b"", lambda number: block(20, b"")),
    ("TelemetryPacket", b"", lambda number: block(30, block(4, b"") + block(5, b""))),
    ("EventEnvelope", b"", lambda number: block(21, b"")),
    ("EventEnvelope", b"", lambda number: block(21, b"%03x" % number)),
    ("EventEnvelope", b"", lambda number: block(21, b"x" * 60)),
    ("BusEnvelope", b"", lambda number: entry(3, b"%x" % number, block(2, b""))),
    ("BusEnvelope", b"", lambda number: entry(3, b"%x" % number, block(2, b"%x" % number))),
    ("BlueprintDescriptor", b"", lambda number: entry(4, b"%x" % number, block(2, b""))),
    ("MetricPoint", b"", lambda number: integer(99, 1)),
    ("MetricPoint", b"", lambda number: b"\x0b"),
    ("AdaptationCommand", integer(1, 1), lambda number: block(10 + number % 2, b"")),
]


@pytest.mark.parametrize("size", MULTIPLES)
@pytest.mark.parametrize(("name", "start", "part"), PARTS)
def test_a_frame_full_of_small_parts_takes_a_small_multiple_of_itself(
    name: str, start: bytes, part: Part, size: int
) -> None:
    frame = start + many(part, size - len(start))
    assert peak_bytes(name, frame) < MULTIPLES[size] * len(frame)


@pytest.mark.parametrize("size", [1024, 4096, TRUSTED_BYTES_MAX])
@pytest.mark.parametrize(
    ("name", "start", "part", "weight", "text"),
    [
        ("SystemStatePacket", integer(1, 1), lambda number: block(8, b""), 288, 9),
        ("SystemStatePacket", integer(1, 1), lambda number: entry(7, b"%04x" % number, four(2)), 208, 9),
        ("TelemetryPacket", b"", lambda number: block(10, block(1, b"%x" % number)), 192, 1),
        ("TelemetryPacket", b"", lambda number: block(20, b""), 192, 1),
        ("TelemetryPacket", b"", lambda number: block(30, block(4, b"") + block(5, b"")), 368, 1),
        ("EventEnvelope", b"", lambda number: block(21, b"%03x" % number), 80, 1),
        ("BusEnvelope", b"", lambda number: entry(3, b"%04x" % number, block(2, b"%x" % number)), 208, 2),
    ],
)
def test_the_heaviest_frame_that_is_taken_takes_a_small_multiple_of_itself(
    name: str, start: bytes, part: Part, weight: int, text: int, size: int
) -> None:
    count = min(weight_max(size - 8) // weight, (size - 64) // len(part(size)), PARTS_MAX // 3)
    parts = start + b"".join(part(number) for number in range(count))
    frame = block(text, b"x" * (size - len(parts) - 6)) + parts
    decode(MESSAGES[name], frame)
    assert len(frame) < peak_bytes(name, frame) < MULTIPLES[size] * len(frame)
    if weight * (count + 1) > weight_max(size):
        with pytest.raises(WireError, match="too many small"):
            decode(MESSAGES[name], parts + part(count) * 2)


@pytest.mark.parametrize("items", [1000, 4000, 60_000])
@pytest.mark.parametrize("item", [integer(1, 0), block(5, b""), block(6, b"")])
def test_details_of_many_small_values_take_a_small_multiple_of_the_frame(items: int, item: bytes) -> None:
    values = (block(1, item) * items)[: FRAME_BYTES_MAX - 100]
    frame = integer(1, 1) + block(13, entry(1, b"", block(2, block(6, values))))
    assert peak_bytes("AdaptationCommand", frame) < 32 * len(frame)


def test_a_frame_of_one_large_part_takes_three_times_itself() -> None:
    frame = block(2, b"x" * (FRAME_BYTES_MAX - 4))
    assert peak_bytes("BusEnvelope", frame) < 3 * FRAME_BYTES_MAX


SEED = SeedState("", Stage.DORMANT)
STATE = SystemState(1, 0.5, 0.5, 1, "p", 1, 0.5, "run")


def test_messages_of_many_real_parts_are_not_too_heavy() -> None:
    metrics = {f"m{number:03d}": 0.5 for number in range(1000)}
    seeds = tuple(SeedState(f"seed-{number}", Stage.TRAINING) for number in range(1000))
    points = tuple(MetricPoint(f"m{number}", 0.5) for number in range(1000))
    for message in (
        replace(STATE, training_metrics=metrics),
        replace(STATE, seed_states=seeds),
        replace(STATE, seed_states=(SEED,) * 40),
        TelemetryPacket("p", 1, "s", metrics=points),
    ):
        assert len(decode(type(message), encode(message)).__struct_fields__) > 3


def test_a_message_that_nobody_would_read_is_not_written_either() -> None:
    with pytest.raises(
        WireError, match=r"seed_states at byte .*: too many small messages, .* a frame of \d+ bytes"
    ):
        encode(replace(STATE, seed_states=(SEED,) * 500))


BITS = st.sampled_from([b"", b"\x42\0", b"\xc2\x80\0\0", b":\2\n\0", b"B", b"2", b"\x08\x01", b"\0"])


@given(
    st.sampled_from(sorted(MESSAGES)), st.lists(BITS | st.binary(max_size=8), max_size=40), st.integers(1, 80)
)
def test_what_the_sieve_lets_through_is_not_too_heavy(name: str, bits: list[bytes], times: int) -> None:
    frame = b"".join(bits) * times
    told = ""
    if sieve(name).passes(frame):
        try:
            scan(name, frame)
        except WireError as error:
            told = str(error)
    assert "too many small" not in told
