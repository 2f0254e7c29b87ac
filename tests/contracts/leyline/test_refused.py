"""What a frame must not be or hold, field by field, and how the refusal says it."""

from itertools import permutations

import pytest
from google.protobuf.descriptor import FieldDescriptor

from bench.messages import LOOP_MESSAGES
from contracts.leyline.codec import encode
from contracts.leyline.kinds import Kind, enum_of, is_map, value_of
from contracts.leyline.schema import WIRE_TYPES
from contracts.leyline.table import MESSAGES
from tests.contracts.leyline.bytes import (
    NO_UTF8,
    block,
    eight,
    entry,
    four,
    integer,
    least,
    some,
    tag,
    varint,
)
from tests.contracts.leyline.fields import FIELDS, VERSIONED, ids, of, put
from tests.contracts.leyline.frames import check_frame, refused
from tests.contracts.leyline.strategies import WIRE


@pytest.mark.parametrize(("name", "other"), list(permutations(LOOP_MESSAGES, 2)))
def test_a_loop_message_is_not_read_as_another(name: str, other: str) -> None:
    assert check_frame(other, encode(LOOP_MESSAGES[name])) is None


@pytest.mark.parametrize("name", VERSIONED)
@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_another_version_is_refused(name: str, version: int) -> None:
    assert refused(name, integer(1, version)) == f"{name}.version is {version}; this reader knows 1"
    assert refused(name, b"") == f"{name}.version is 0; this reader knows 1"
    assert check_frame(name, integer(1, 1)) is not None


def test_five_messages_have_a_version() -> None:
    assert VERSIONED == [
        "AdaptationCommand",
        "EmergencySignal",
        "FieldReport",
        "PolicyUpdate",
        "SystemStatePacket",
    ]


@pytest.mark.parametrize("number", [99, 2**29 - 1])
@pytest.mark.parametrize("name", MESSAGES)
def test_an_unknown_field_is_refused_whatever_it_holds(name: str, number: int) -> None:
    start = least(WIRE[name])
    for content in (integer(number, 5), four(number), eight(number), block(number, b"x")):
        text = refused(name, start + content)
        assert text == f"{name} at byte {len(start)}: unknown field {number} of {name}"
        assert check_frame(name, start + content) is None


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=ids)
def test_a_field_with_another_wire_type_is_refused_by_name(name: str, field: FieldDescriptor) -> None:
    start = put(WIRE[name], field, b"")
    right = some(field)[0] & 7 if field.number < 16 else some(field)[: len(tag(field.number, 0))][0] & 7
    contents = {
        0: varint(1),
        1: b"\0" * 8,
        2: block(1, b"")[1:],
        3: tag(field.number, 4),
        4: b"",
        5: b"\0" * 4,
    }
    for wire_type in contents.keys() - {right}:
        frame = start + tag(field.number, wire_type) + contents[wire_type]
        text = refused(name, frame)
        assert text is not None
        assert text.startswith(f"{name}.{field.name} at byte {len(start)}: ")
        assert f"where {WIRE_TYPES[right]} should be" in text
        assert check_frame(name, frame) is None


@pytest.mark.parametrize(("name", "field"), of(Kind.ENUM), ids=ids)
@pytest.mark.parametrize("beyond", [1, 100, 2**31])
def test_an_unknown_enum_value_is_refused_by_field_and_number(
    name: str, field: FieldDescriptor, beyond: int
) -> None:
    most = max(value.number for value in enum_of(field).values)
    number = (most + beyond + 2**31) % 2**32 - 2**31
    start = put(WIRE[name], field, b"")
    text = refused(name, start + integer(field.number, number % 2**64))
    assert text == f"{name}.{field.name} at byte {len(start)}: unknown value {number}; known are 0 to {most}"


@pytest.mark.parametrize(("name", "field"), of(Kind.TEXT), ids=ids)
def test_text_that_is_no_utf8_is_refused_by_name(name: str, field: FieldDescriptor) -> None:
    bad = [block(field.number, b"ok" + NO_UTF8), block(field.number, b"\xed\xa0\x80")]
    if is_map(field):
        bad = [entry(field.number, b"key", block(2, NO_UTF8))]
    for content in bad:
        text = refused(name, put(WIRE[name], field, content))
        assert text is not None
        assert f"{name}.{field.name}" in text
        assert "no UTF-8" in text


@pytest.mark.parametrize(("name", "field"), [case for case in FIELDS if is_map(case[1])], ids=ids)
def test_a_map_s_key_that_is_no_utf8_is_refused_by_name(name: str, field: FieldDescriptor) -> None:
    text = refused(name, put(WIRE[name], field, entry(field.number, NO_UTF8, some(value_of(field)))))
    assert text is not None
    assert f"{name}.{field.name}[0].key at byte" in text


@pytest.mark.parametrize(
    ("name", "field"),
    of(Kind.TEXT, Kind.BYTES, Kind.MESSAGE, Kind.TIME, Kind.DURATION, Kind.DETAILS),
    ids=ids,
)
def test_a_length_that_lies_is_refused_by_name(name: str, field: FieldDescriptor) -> None:
    start = put(WIRE[name], field, b"")
    for size in (1, 127, 2**21, 2**31 - 1, 2**32 - 1):
        frame = start + tag(field.number, 2) + varint(size)
        text = refused(name, frame)
        assert text is not None
        assert f"{name}.{field.name} at byte {len(start)}: {size} bytes long, and 0 are left" in text
        assert check_frame(name, frame) is None


def test_a_length_beyond_its_own_message_is_refused_though_the_frame_goes_on() -> None:
    """The inner text claims bytes of the field after its message."""
    frame = block(6, tag(2, 2) + varint(5)) + block(9, b"packet")
    text = refused("SystemStatePacket", integer(1, 1) + frame)
    assert text == "SystemStatePacket.hardware_context.device_id at byte 4: 5 bytes long, and 0 are left"


@pytest.mark.parametrize("name", MESSAGES)
def test_an_integer_that_never_ends_is_refused(name: str) -> None:
    for size in (1, 5, 10, 1000):
        assert check_frame(name, b"\x80" * size) is None
        assert check_frame(name, least(WIRE[name]) + b"\x08" + b"\xff" * size) is None
    assert check_frame(name, b"\0") is None, "there is no field 0"


def nested(levels: int, inner: bytes, step: int) -> bytes:
    """A command whose details nest so deep: `step` 5 in dicts, 6 in lists."""
    value = inner
    for _ in range(levels):
        within = block(1, block(1, b"") + block(2, value)) if step == 5 else block(1, value)
        value = block(step, within)
    return integer(1, 1) + block(13, block(1, block(1, b"") + block(2, value)))


@pytest.mark.parametrize("step", [5, 6])
def test_details_nest_32_levels_deep_and_no_deeper(step: int) -> None:
    assert check_frame("AdaptationCommand", nested(31, integer(1, 0), step)) is not None
    for levels in (32, 33, 40, 60, 1000):
        frame = nested(levels, integer(1, 0), step)
        text = refused("AdaptationCommand", frame)
        assert text is not None
        assert text.startswith("AdaptationCommand.rollback_payload.fields[0].value")
        assert text.endswith("nested deeper than 32 levels")
        assert len(text) < 400
        assert check_frame("AdaptationCommand", frame) is None


def test_groups_nested_without_end_are_refused() -> None:
    for name in MESSAGES:
        for number in (1, 99):
            assert check_frame(name, tag(number, 3) * 10_000) is None
            assert check_frame(name, tag(number, 3) * 50 + tag(number, 4) * 50) is None


def test_details_without_a_kind_are_refused() -> None:
    frame = integer(1, 1) + block(13, entry(1, b"key", block(2, b"")))
    text = refused("AdaptationCommand", frame)
    assert text == "AdaptationCommand.rollback_payload.fields[0].value at byte 11: a value of no kind"
    frame = integer(1, 1) + block(13, entry(1, b"key", b""))
    text = refused("AdaptationCommand", frame)
    assert text == "AdaptationCommand.rollback_payload.fields[0] at byte 4: a key without a value"
