"""What protobuf would silently drop is refused, also in frames made to hide it."""

from itertools import permutations

import pytest
from google.protobuf.descriptor import FieldDescriptor

from contracts.leyline import leyline_pb2 as pb
from contracts.leyline.kinds import is_map
from tests.contracts.leyline.bytes import (
    block,
    entry,
    four,
    integer,
    some,
    tag,
    varint,
)
from tests.contracts.leyline.fields import FIELDS, ids, put
from tests.contracts.leyline.frames import check_frame, refused
from tests.contracts.leyline.strategies import WIRE


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=ids)
def test_a_singular_field_twice_is_refused_and_a_list_s_second_item_is_not(
    name: str, field: FieldDescriptor
) -> None:
    once = put(WIRE[name], field, some(field))
    frame = once + some(field)
    if field.is_repeated and not is_map(field):
        assert check_frame(name, frame) is not None
        return
    text = refused(name, frame)
    assert text is not None
    where = f"{name}.{field.name}{'[1]' if is_map(field) else ''} at byte {len(once)}: "
    assert text.startswith(where)
    assert "a second time" in text
    assert check_frame(name, once) is not None, "once is welcome"


def test_a_duplicate_deep_inside_is_refused_with_its_path() -> None:
    seed = block(1, b"seed") + integer(2, 3) + integer(2, 4)
    text = refused("SystemStatePacket", integer(1, 1) + block(8, b"") + block(8, seed))
    assert text == "SystemStatePacket.seed_states[1].stage at byte 14: a second time"
    time = integer(1, 1) + integer(2, 2) + integer(1, 1)
    text = refused("KernelPrefetchRequest", block(4, time))
    assert text == "KernelPrefetchRequest.issued_at.seconds at byte 6: a second time"


def test_two_members_of_a_oneof_are_refused() -> None:
    for first, second in permutations((10, 11, 12, 13), 2):
        text = refused("AdaptationCommand", integer(1, 1) + block(first, b"") + block(second, b""))
        assert text is not None
        assert "payload holds one" in text
        assert check_frame("AdaptationCommand", integer(1, 1) + block(first, b"")) is not None


@pytest.mark.parametrize("extra", [integer(15, 1), four(15), block(15, b"abc"), integer(2, 0), four(3)])
def test_what_is_too_much_is_not_hidden_by_entries_that_lack_their_key_or_value(extra: bytes) -> None:
    """The message gets as long as the frame: protobuf adds to the entries what it drops elsewhere."""
    for lacking in (four(2), block(1, b"k"), b""):
        for count in range(1, 4):
            entries = b"".join(
                block(6, lacking.replace(b"k", bytes([number]))) for number in range(65, 65 + count)
            )
            frame = integer(2, 1) + four(3) + extra + entries
            text = refused("SeedState", frame)
            assert text is not None
            assert check_frame("SeedState", frame) is None


def test_a_key_twice_is_not_hidden_by_entries_that_lack_their_value() -> None:
    """A second `a` takes 10 bytes with it, and two entries that lack their value get back 5 each."""
    for count in range(1, 5):
        lacking = b"".join(block(6, block(1, bytes([letter]))) for letter in range(66, 66 + 2 * count))
        frame = entry(6, b"a", four(2)) * (count + 1) + lacking
        assert len(pb.SeedState.FromString(frame).SerializeToString()) == len(frame), "it would be hidden"
        assert check_frame("SeedState", frame) is None


def test_what_is_too_much_is_not_hidden_by_a_short_negative_integer() -> None:
    """protobuf writes -1 nanosecond in 10 bytes; here it is in 5, so the envelope gets 5 bytes longer."""
    ttl = block(6, tag(2, 0) + varint(2**32 - 1))
    assert check_frame("EventEnvelope", ttl) is not None, "it loses nothing"
    for extra in (block(99, b"ab"), block(1, b"abc") + block(1, b"d")):
        frame = ttl + extra
        envelope = pb.EventEnvelope.FromString(frame)
        envelope.DiscardUnknownFields()
        assert len(envelope.SerializeToString()) == len(frame), "it would be hidden"
        assert check_frame("EventEnvelope", frame) is None
