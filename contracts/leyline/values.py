"""The values that need more than an assignment: times, details, enums, and the checks that protobuf lacks.

Everything here raises one of `REFUSED` on what can't travel. The text need not say where: on a refusal the
codec looks again, slowly, for the place (`blame.py`, `scan.py`).
"""

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import NullValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from contracts.messages import SCHEMA_VERSION, JsonValue
from contracts.wire import WireError

E = TypeVar("E", bound=IntEnum)
REFUSED = (TypeError, ValueError, OverflowError, AttributeError, LookupError, struct.error)
"""What a struct that does not fit its message makes the writers raise; `WireError` is a `ValueError`."""

DEPTH_MAX = 32
"""Levels of lists and dicts inside a command's details. Protobuf itself stops at 100 messages, 3 a level."""
SECOND_NS = 1_000_000_000
TIME_MIN_S, TIME_MAX_S = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, protobuf's range of a Timestamp."""
DURATION_MAX_S = 315_576_000_000
"""About 10,000 years, protobuf's range of a Duration on either side of 0."""

TEXTS: Callable[[Collection[str]], str] = "".join
"""Refuses what is not str; protobuf would take bytes for str, and they would come back as str."""
FLAGS = {False: False, True: True}
"""Refuses what is not a bool; protobuf would take any number."""


def floats(count: int) -> Callable[..., bytes]:
    """A check of `count` values: numbers that a 32 bit float can hold, if rounded; infinity and NaN are.

    Little-endian, for the machine's own order makes infinity of what is too large.
    """
    return struct.Struct(f"<{count}f").pack


_FLOATS = tuple(floats(count) for count in range(33))
"""For the maps that are usual."""


def check_floats(values: Mapping[str, float]) -> None:
    """The same check of a map's values, and that its keys are str."""
    TEXTS((*values,))
    count = len(values)
    check = _FLOATS[count] if count < len(_FLOATS) else floats(count)
    check(*values.values())


def check_texts(values: Mapping[str, str]) -> None:
    """Refuse a map whose keys and values are not all str."""
    TEXTS(values)
    TEXTS(values.values())


def exact(value: float) -> float:
    """`value` as a double; an int that a double can't hold is refused."""
    number = float(value)
    if number != value and value == value:
        raise WireError("an int that no double is equal to")
    return number


def numbers(enum: type[E]) -> dict[E, Any]:
    """The number of each value; `Any`, for protobuf's stubs have a type for each enum."""
    return {value: value.value for value in enum}


class Known(dict[int, E]):
    """The values of an enum by number; one that is not there is refused."""

    def __init__(self, enum: type[E]) -> None:
        super().__init__({value.value: value for value in enum})
        self._name = enum.__name__

    def __missing__(self, number: int) -> E:
        raise WireError(f"{self._name} has no value {number}")


def check_version(version: int) -> int:
    """Refuse every schema version but ours; a message without one has version 0."""
    if version != SCHEMA_VERSION:
        raise WireError(f"version {version}, and only version {SCHEMA_VERSION} is known here")
    return version


# Times ---------------------------------------------------------------------------------------------


def write_time(ns: int, wire: Timestamp) -> None:
    """Nanoseconds since the Unix epoch."""
    seconds, nanos = divmod(ns, SECOND_NS)
    if not TIME_MIN_S <= seconds <= TIME_MAX_S:
        raise WireError("a time outside the years 1 to 9999")
    wire.seconds = seconds
    wire.nanos = nanos


def read_time(wire: Timestamp) -> int:
    """Nanoseconds since the Unix epoch."""
    seconds, nanos = wire.seconds, wire.nanos
    if TIME_MIN_S <= seconds <= TIME_MAX_S and 0 <= nanos < SECOND_NS:
        return seconds * SECOND_NS + nanos
    raise WireError("a time that is none")


def write_duration(ns: int, wire: Duration) -> None:
    """Nanoseconds; both parts of a negative one are negative."""
    seconds, nanos = divmod(abs(ns), SECOND_NS)
    if seconds > DURATION_MAX_S or (seconds == DURATION_MAX_S and nanos):
        raise WireError("a duration of more than 10,000 years")
    wire.seconds = seconds if ns >= 0 else -seconds
    wire.nanos = nanos if ns >= 0 else -nanos


def read_duration(wire: Duration) -> int:
    """Nanoseconds."""
    seconds, nanos = wire.seconds, wire.nanos
    if not duration_fits(seconds, nanos):
        raise WireError("a duration that is none")
    return seconds * SECOND_NS + nanos


def time_fits(seconds: int, nanos: int) -> bool:
    """Whether these are a Timestamp's parts."""
    return TIME_MIN_S <= seconds <= TIME_MAX_S and 0 <= nanos < SECOND_NS


def duration_fits(seconds: int, nanos: int) -> bool:
    """Whether these are a Duration's parts: in range, and of the same sign."""
    limit = DURATION_MAX_S * SECOND_NS
    return abs(nanos) < SECOND_NS and seconds * nanos >= 0 and abs(seconds * SECOND_NS + nanos) <= limit


# Details -------------------------------------------------------------------------------------------


def write_details(details: Mapping[str, object], wire: Struct) -> None:
    """A command's free-form details."""
    wire.SetInParent()
    _write_fields(details, wire, 1)


def _write_fields(items: Mapping[str, object], wire: Struct, depth: int) -> None:
    TEXTS(items)
    for key, item in items.items():
        _write_value(item, wire.fields[key], depth)


def _write_value(value: object, wire: Value, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise WireError(f"details nested deeper than {DEPTH_MAX} levels")
    match value:
        case None:
            wire.null_value = NullValue.NULL_VALUE
        case bool():
            wire.bool_value = value
        case str():
            wire.string_value = value
        case int() | float():
            wire.number_value = exact(value)
        case dict():
            wire.struct_value.SetInParent()
            _write_fields(value, wire.struct_value, depth + 1)
        case list():
            wire.list_value.SetInParent()
            for item in value:
                _write_value(item, wire.list_value.values.add(), depth + 1)
        case _:
            raise TypeError("no JSON-like value")


def read_details(wire: Struct) -> dict[str, JsonValue]:
    """A command's free-form details."""
    return {key: _read_value(wire.fields[key], 1) for key in wire.fields}


def _read_value(wire: Value, depth: int) -> JsonValue:
    if depth > DEPTH_MAX:
        raise WireError(f"details nested deeper than {DEPTH_MAX} levels")
    match wire.WhichOneof("kind"):
        case "number_value":
            return wire.number_value
        case "string_value":
            return wire.string_value
        case "bool_value":
            return wire.bool_value
        case "struct_value":
            fields = wire.struct_value.fields
            return {key: _read_value(fields[key], depth + 1) for key in fields}
        case "list_value":
            return [_read_value(item, depth + 1) for item in wire.list_value.values]
        case "null_value" if wire.null_value == NullValue.NULL_VALUE:
            return None
    raise WireError("a value of no known kind")


# Lists ---------------------------------------------------------------------------------------------


def check_list(values: Sequence[str]) -> None:
    """Refuse what is not a tuple or list of str; protobuf would take a str for its letters."""
    if not isinstance(values, tuple | list):
        raise TypeError("no tuple")
    TEXTS(values)
