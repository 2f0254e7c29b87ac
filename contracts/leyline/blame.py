"""Says which field of a struct can't travel, once a writer or protobuf itself has refused the struct."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from contracts.leyline.kinds import Kind, enum_of, is_map, kind_of, message_of, value_of
from contracts.leyline.table import DETAILS, ENUMS, MESSAGES
from contracts.leyline.values import DEPTH_MAX, DURATION_MAX_S, SECOND_NS, TIME_MAX_S, TIME_MIN_S
from contracts.messages import SCHEMA_VERSION

FLOAT32_MAX = 3.4028235677973366e38
"""From here on a number is infinity in 32 bits."""
_INTEGER_MAX = {Kind.UINT32: 2**32 - 1, Kind.UINT64: 2**64 - 1}


def blame(message: msgspec.Struct, wire: Descriptor) -> str | None:
    """Path to the first value that can't travel, and why; None if there is none to be found."""
    return next(_message(message, wire, wire.name), None)


def _message(value: object, wire: Descriptor, path: str) -> Iterator[str]:
    struct = MESSAGES[wire.name]
    if not isinstance(value, struct):
        yield f"{path}: a {_type(value)} where a {struct.__name__} should be"
        return
    for field in wire.fields:
        if field.containing_oneof is None:
            yield from _field(getattr(value, field.name), field, f"{path}.{field.name}")
    for oneof in wire.oneofs:
        yield from _member(getattr(value, oneof.name), oneof.fields, f"{path}.{oneof.name}")


def _field(value: object, field: FieldDescriptor, path: str) -> Iterator[str]:
    if is_map(field):
        if not isinstance(value, dict):
            yield f"{path}: a {_type(value)} where a dict should be"
            return
        for key, item in value.items():
            yield from _text(key, f"{path}'s key {_shown(key)}")
            yield from _one(item, value_of(field), f"{path}[{_shown(key)}]")
    elif field.is_repeated:
        if not isinstance(value, tuple | list):
            yield f"{path}: a {_type(value)} where a tuple should be"
            return
        for index, item in enumerate(value):
            yield from _one(item, field, f"{path}[{index}]")
    elif value is not None or kind_of(field) is not Kind.DURATION:
        yield from _one(value, field, path)


def _one(value: object, field: FieldDescriptor, path: str) -> Iterator[str]:
    """One occurrence of a field."""
    match kind_of(field):
        case Kind.TEXT:
            yield from _text(value, path)
        case Kind.BYTES:
            if not isinstance(value, bytes):
                yield f"{path}: a {_type(value)} where bytes should be"
        case Kind.FLAG:
            if value not in (False, True):
                yield f"{path}: {_shown(value)} is no bool"
        case Kind.FLOAT | Kind.DOUBLE as kind:
            yield from _number(value, path, single=kind is Kind.FLOAT)
        case Kind.UINT32 | Kind.UINT64 as kind:
            yield from _integer(value, path, 0, _INTEGER_MAX[kind])
            if field.name == "version" and value != SCHEMA_VERSION:
                yield f"{path} is {_shown(value)}; this writer knows {SCHEMA_VERSION}"
        case Kind.ENUM:
            enum = ENUMS[enum_of(field).name].type
            if value not in list(enum):
                yield f"{path}: {_shown(value)} is no {enum.__name__}"
        case Kind.TIME:
            yield from _integer(value, path, TIME_MIN_S * SECOND_NS, (TIME_MAX_S + 1) * SECOND_NS - 1)
        case Kind.DURATION:
            yield from _integer(value, path, -DURATION_MAX_S * SECOND_NS, DURATION_MAX_S * SECOND_NS)
        case _:
            yield from _message(value, message_of(field), path)


def _member(value: object, members: Sequence[FieldDescriptor], path: str) -> Iterator[str]:
    """The member of a oneof that a struct holds."""
    for field in members:
        if isinstance(value, DETAILS) and kind_of(field) is Kind.DETAILS:
            yield from _details(value.details, f"{path}.details", 0)
            return
        if kind_of(field) is Kind.MESSAGE and isinstance(value, MESSAGES[message_of(field).name]):
            yield from _message(value, message_of(field), path)
            return
    if value is not None:
        yield f"{path}: a {_type(value)}, which is none of {', '.join(field.name for field in members)}"


def _details(value: object, path: str, depth: int) -> Iterator[str]:
    if depth > DEPTH_MAX:
        yield f"{path[:100]}…: nested deeper than {DEPTH_MAX} levels"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _text(key, f"{path}'s key {_shown(key)}")
            yield from _details(item, f"{path}[{_shown(key)}]", depth + 1)
    elif depth == 0:
        yield f"{path}: a {_type(value)} where a dict should be"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _details(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        yield from _text(value, path)
    elif isinstance(value, int | float):
        yield from _number(value, path, single=False)
    elif value is not None:
        yield f"{path}: a {_type(value)} is no JSON-like value"


def _text(value: object, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{path}: a {_type(value)} where a str should be"
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        yield f"{path}: no UTF-8: {error.reason} at its character {error.start}"


def _number(value: object, path: str, single: bool) -> Iterator[str]:
    if isinstance(value, Mapping | str | bytes) or not hasattr(value, "__float__"):
        yield f"{path}: a {_type(value)} where a float should be"
        return
    try:
        number = float(value)
    except OverflowError:
        yield f"{path}: {_shown(value)} is too large for a float"
        return
    if single and FLOAT32_MAX <= abs(number) < float("inf"):
        yield f"{path}: {number:g} is too large for a float of 32 bits"
    elif not single and number != value and value == value:
        yield f"{path}: {_shown(value)} is an int that no double is equal to"


def _integer(value: object, path: str, least: int, most: int) -> Iterator[str]:
    if not hasattr(value, "__index__"):
        yield f"{path}: a {_type(value)} where an int should be"
    elif not least <= int(value) <= most:
        yield f"{path}: {_shown(value)} is outside {least} to {most}"


def _type(value: object) -> str:
    return type(value).__name__


def _shown(value: object) -> str:
    """A value in an error's text, never a long one."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:30]}…"
