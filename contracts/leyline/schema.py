"""What the scanner must know of a message: its fields by number, taken from the descriptors."""

from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from contracts.leyline import leyline_pb2
from contracts.leyline.kinds import enum_of, is_map, message_of
from contracts.leyline.weight import Sieve, sieve_of, weight_of

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
WIRE_TYPES = {VARINT: "a varint", FIXED64: "8 bytes", LENGTH: "a length", FIXED32: "4 bytes"}
"""What follows a tag, by its low three bits; 3 and 4 are groups, which Leyline has none of."""

_WIRE_TYPE = {
    FieldDescriptor.TYPE_DOUBLE: FIXED64,
    FieldDescriptor.TYPE_FLOAT: FIXED32,
    FieldDescriptor.TYPE_STRING: LENGTH,
    FieldDescriptor.TYPE_BYTES: LENGTH,
    FieldDescriptor.TYPE_MESSAGE: LENGTH,
}
_INT32 = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM)


class Field(NamedTuple):
    """One field, as the scanner meets it."""

    name: str
    number: int
    wire_type: int
    repeated: bool
    map: bool
    text: bool
    signed_bits: int
    """Of an integer that may be negative, else 0."""
    oneof: str
    """The oneof that it is a member of, or ""."""
    values: frozenset[int] | None
    """The numbers of its enum."""
    inside: "Schema | None"
    """The message that it holds."""
    weight: int
    """See `weight.py`; 0 where it is no part."""


class Schema(NamedTuple):
    """One message."""

    name: str
    fields: dict[int, Field]


def _schema(message: Descriptor, known: dict[str, Schema]) -> Schema:
    """The schema of `message` and of all inside it; messages can hold themselves."""
    if message.full_name not in known:
        schema = known[message.full_name] = Schema(message.full_name, {})
        schema.fields.update((field.number, _field(field, known)) for field in message.fields)
    return known[message.full_name]


def _field(field: FieldDescriptor, known: dict[str, Schema]) -> Field:
    holds_message = field.type == FieldDescriptor.TYPE_MESSAGE
    signed = 32 if field.type in _INT32 else 64 if field.type == FieldDescriptor.TYPE_INT64 else 0
    is_enum = field.type == FieldDescriptor.TYPE_ENUM
    return Field(
        name=field.name,
        number=field.number,
        wire_type=_WIRE_TYPE.get(field.type, VARINT),
        repeated=field.is_repeated,
        map=is_map(field),
        text=field.type == FieldDescriptor.TYPE_STRING,
        signed_bits=signed,
        oneof=field.containing_oneof.name if field.containing_oneof is not None else "",
        values=frozenset(value.number for value in enum_of(field).values) if is_enum else None,
        inside=_schema(message_of(field), known) if holds_message else None,
        weight=weight_of(field),
    )


_KNOWN: dict[str, Schema] = {}
SCHEMAS: dict[str, Schema] = {
    name: _schema(message, _KNOWN) for name, message in leyline_pb2.DESCRIPTOR.message_types_by_name.items()
}
"""Each message of Leyline by its name."""


def sieve(name: str) -> Sieve:
    """Of the message called `name`."""
    known: dict[str, Schema] = {}
    todo = [SCHEMAS[name]]
    while todo:
        schema = todo.pop()
        if schema.name not in known:
            known[schema.name] = schema
            todo += [field.inside for field in schema.fields.values() if field.inside is not None]
    parts = [field for schema in known.values() for field in schema.fields.values() if field.weight]
    return sieve_of([(field.number, field.weight) for field in parts])
