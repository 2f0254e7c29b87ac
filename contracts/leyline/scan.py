"""Reads a frame by hand, byte by byte, to say what is wrong with it and where.

The codec asks when protobuf refused a frame or may not have read all of it, and before it lets protobuf at
a large one. The scanner keeps its own stack and stops at the first fault, so its time and memory are
bounded. It accepts what loses nothing: integers in more bytes than they need, integers wider than their
field (cut to it, as protobuf does), fields in any order, defaults that are written out, map entries without
key or value.
"""

from collections.abc import Iterator
from typing import NoReturn

from contracts.leyline.schema import (
    FIXED32,
    LENGTH,
    SCHEMAS,
    VARINT,
    WIRE_TYPES,
    Field,
    Schema,
)
from contracts.leyline.values import DEPTH_MAX, duration_fits, time_fits
from contracts.leyline.weight import weight_max
from contracts.messages import SCHEMA_VERSION
from contracts.wire import WireError

PARTS_MAX = 8192
"""Messages, map entries and list items in one frame, at every depth together."""
PLACE_CHARACTERS_MAX = 200
"""Of the path in an error's text."""


def scan(name: str, data: bytes) -> None:
    """Check the frame `data` of the message called `name`.

    Raises:
        WireError: what is wrong, the path to it, and the offset in bytes of the field that it is in.
    """
    _Scan(name, data).run()


class _Level:
    """A message that the scanner is inside of."""

    __slots__ = ("counts", "end", "field", "index", "keys", "schema", "start", "values")

    def __init__(self, schema: Schema, field: Field | None, index: int, start: int, end: int) -> None:
        self.schema = schema
        self.field = field
        self.index = index
        self.start = start
        self.end = end
        self.counts: dict[int, int] = {}
        """Occurrences of each field."""
        self.values: dict[str, int | bytes] = {}
        """What singular integers and a map's key were; of a oneof, the number of the member."""
        self.keys: set[tuple[int, int | bytes]] = set()
        """Field number and key of every map entry."""

    def number(self, name: str) -> int:
        value = self.values.get(name, 0)
        assert isinstance(value, int)
        return value


class _Scan:
    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.at = 0
        self.parts = 0
        self.weight = 0
        self.weight_max = weight_max(len(data))
        self.levels = [_Level(SCHEMAS[name], None, 0, 0, len(data))]

    def run(self) -> None:
        while self.levels:
            level = self.levels[-1]
            if self.at < level.end:
                self._field(level)
            else:
                self._close(level)
                self.levels.pop()

    def _field(self, level: _Level) -> None:
        """Read one field, or go inside it."""
        start = self.at
        tag = self._varint(level, start, None, bytes_max=5)
        number, wire_type = tag >> 3, tag & 7
        if tag > 0xFFFF_FFFF or number == 0:
            self._refuse(start, None, "a tag with no field number that there can be")
        field = level.schema.fields.get(number)
        if field is None:
            self._refuse(start, None, f"unknown field {number} of {_short(level.schema.name)}")
        if wire_type != field.wire_type:
            found = WIRE_TYPES.get(wire_type, f"wire type {wire_type}")
            self._refuse(start, field, f"{found} where {WIRE_TYPES[field.wire_type]} should be")
        self._count(level, field, start)
        if wire_type == VARINT:
            self._integer(level, field, start)
        elif wire_type == LENGTH:
            self._length(level, field, start)
        else:
            self._skip(level, field, start, 4 if wire_type == FIXED32 else 8)

    def _count(self, level: _Level, field: Field, start: int) -> None:
        """Refuse a singular field's second time, and a second member of a oneof."""
        if field.repeated:
            return
        if level.counts.get(field.number):
            self._refuse(start, field, "a second time")
        if field.oneof and field.oneof in level.values:
            other = level.schema.fields[level.number(field.oneof)].name
            self._refuse(start, field, f"beside {other}; {field.oneof} holds one")
        level.counts[field.number] = 1
        if field.oneof:
            level.values[field.oneof] = field.number

    def _integer(self, level: _Level, field: Field, start: int) -> None:
        value = self._varint(level, start, field) & 0xFFFF_FFFF_FFFF_FFFF
        if field.signed_bits:
            value &= (1 << field.signed_bits) - 1
            value -= (value >> (field.signed_bits - 1)) << field.signed_bits
        if field.values is not None and value not in field.values:
            self._refuse(start, field, f"unknown value {value}; known are {_span(field.values)}")
        if field.name not in level.values:
            level.values[field.name] = value

    def _length(self, level: _Level, field: Field, start: int) -> None:
        size = self._varint(level, start, field, bytes_max=5)
        body = self.at
        if size > level.end - body:
            self._refuse(start, field, f"{size} bytes long, and {level.end - body} are left")
        index = level.counts.get(field.number, 0) if field.repeated else 0
        if field.repeated or field.inside is not None:
            self.parts += 1
            self.weight += field.weight
            if self.parts > PARTS_MAX:
                self._refuse(start, field, f"more than {PARTS_MAX} messages, entries and items in one frame")
            if self.weight > self.weight_max:
                what = f"too many small messages, entries and items for a frame of {len(self.data)} bytes"
                self._refuse(start, field, what)
        if field.repeated:
            level.counts[field.number] = index + 1
        if field.inside is not None:
            self._enter(_Level(field.inside, field, index, start, body + size))
            return
        self.at = body + size
        if field.text:
            self._text(level, field, start, index, self.data[body : self.at])

    def _text(self, level: _Level, field: Field, start: int, index: int, text: bytes) -> None:
        try:
            text.decode()
        except UnicodeDecodeError as error:
            what = f"no UTF-8: {error.reason} at its byte {error.start}"
            self._refuse(start, field, what, index if field.repeated else None)
        if level.field is not None and level.field.map and field.name == "key":
            level.values["key"] = text

    def _enter(self, level: _Level) -> None:
        self.levels.append(level)
        if level.schema.name == "google.protobuf.Value":
            depth = sum(one.schema is level.schema for one in self.levels)
            if depth > DEPTH_MAX:
                self._refuse_level(f"nested deeper than {DEPTH_MAX} levels")

    def _close(self, level: _Level) -> None:
        """Judge a message as a whole."""
        match level.schema.name:
            case "google.protobuf.Timestamp":
                if not time_fits(level.number("seconds"), level.number("nanos")):
                    self._refuse_level("no time: seconds or nanoseconds out of range")
            case "google.protobuf.Duration":
                if not duration_fits(level.number("seconds"), level.number("nanos")):
                    self._refuse_level("no duration: out of range, or its parts differ in sign")
            case "google.protobuf.Value":
                if "kind" not in level.values:
                    self._refuse_level("a value of no kind")
            case "google.protobuf.Struct.FieldsEntry":
                if 2 not in level.counts:  # its default is a value of no kind
                    self._refuse_level("a key without a value")
        if level.field is None and any(field.name == "version" for field in level.schema.fields.values()):
            version = level.number("version") & 0xFFFF_FFFF
            if version != SCHEMA_VERSION:
                raise WireError(f"{self.name}.version is {version}; this reader knows {SCHEMA_VERSION}")
        if level.field is not None and level.field.map:
            entry = level.field.number, level.values.get("key", b"")
            if entry in self.levels[-2].keys:
                self._refuse_level("its key is there a second time")
            self.levels[-2].keys.add(entry)

    def _skip(self, level: _Level, field: Field, start: int, size: int) -> None:
        if size > level.end - self.at:
            self._refuse(
                start, field, f"cut off: {size} bytes are needed, and {level.end - self.at} are left"
            )
        self.at += size

    def _varint(self, level: _Level, start: int, field: Field | None, bytes_max: int = 10) -> int:
        value = shift = 0
        for at in range(self.at, min(level.end, self.at + bytes_max)):
            byte = self.data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.at = at + 1
                return value
            shift += 7
        if level.end - self.at < bytes_max:
            self._refuse(start, field, "cut off inside an integer")
        return self._refuse(start, field, f"an integer longer than {bytes_max} bytes")

    # Refusals ----------------------------------------------------------------------------------------

    def _refuse(self, at: int, field: Field | None, what: str, index: int | None = None) -> NoReturn:
        place = "".join(self._path())
        if field is not None:
            place += f".{field.name}" + (f"[{index}]" if index is not None else "")
        if len(place) > PLACE_CHARACTERS_MAX:
            half = PLACE_CHARACTERS_MAX // 2
            place = f"{place[:half]}…{place[-half:]}"
        raise WireError(f"{place} at byte {at}: {what}")

    def _refuse_level(self, what: str) -> NoReturn:
        """Refuse the message that the scanner is inside of."""
        self._refuse(self.levels[-1].start, None, what)

    def _path(self) -> Iterator[str]:
        yield self.name
        for level in self.levels[1:]:
            assert level.field is not None, "only the first level is in no field"
            yield f".{level.field.name}"
            if level.field.repeated:
                yield f"[{level.index}]"


def _span(numbers: frozenset[int]) -> str:
    return f"{min(numbers)} to {max(numbers)}" if len(numbers) > 1 else str(*numbers)


def _short(name: str) -> str:
    return name.rpartition(".")[2]
