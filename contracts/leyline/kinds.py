"""What a field of a message is to this codec: one word that decides how it is written, read and checked."""

from collections.abc import Iterator
from enum import StrEnum

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor


class Kind(StrEnum):
    """A field's kind; how often it occurs is another matter."""

    TEXT = "string"
    BYTES = "bytes"
    FLAG = "bool"
    FLOAT = "float"
    DOUBLE = "double"
    UINT32 = "uint32"
    UINT64 = "uint64"
    ENUM = "enum"
    TIME = "google.protobuf.Timestamp"
    DURATION = "google.protobuf.Duration"
    DETAILS = "google.protobuf.Struct"
    MESSAGE = "message"


_SCALARS = {
    FieldDescriptor.TYPE_STRING: Kind.TEXT,
    FieldDescriptor.TYPE_BYTES: Kind.BYTES,
    FieldDescriptor.TYPE_BOOL: Kind.FLAG,
    FieldDescriptor.TYPE_FLOAT: Kind.FLOAT,
    FieldDescriptor.TYPE_DOUBLE: Kind.DOUBLE,
    FieldDescriptor.TYPE_UINT32: Kind.UINT32,
    FieldDescriptor.TYPE_UINT64: Kind.UINT64,
    FieldDescriptor.TYPE_ENUM: Kind.ENUM,
}
_WELL_KNOWN = {str(kind): kind for kind in (Kind.TIME, Kind.DURATION, Kind.DETAILS)}


def kind_of(field: FieldDescriptor) -> Kind:
    """The kind of one occurrence of `field`; `ValueError` if Leyline has no such fields."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _WELL_KNOWN.get(message_of(field).full_name, Kind.MESSAGE)
    if field.type not in _SCALARS:
        raise ValueError(f"{field.full_name} has protobuf's type {field.type}, which Leyline does not use")
    return _SCALARS[field.type]


def message_of(field: FieldDescriptor) -> Descriptor:
    """What a field of messages holds."""
    assert field.message_type is not None, f"{field.full_name} holds messages"
    return field.message_type


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """What an enum field holds."""
    assert field.enum_type is not None, f"{field.full_name} holds values of an enum"
    return field.enum_type


def is_map(field: FieldDescriptor) -> bool:
    """Whether `field` is a map; its entry has the fields `key` and `value`."""
    return field.type == FieldDescriptor.TYPE_MESSAGE and message_of(field).GetOptions().map_entry


def value_of(field: FieldDescriptor) -> FieldDescriptor:
    """The value's field of a map."""
    return message_of(field).fields_by_name["value"]


def messages_in(message: Descriptor) -> Iterator[Descriptor]:
    """`message` and every message inside it, entries of maps too, each once."""
    met = {message.full_name}
    ahead = [message]
    while ahead:
        one = ahead.pop()
        yield one
        for field in one.fields:
            if field.type == FieldDescriptor.TYPE_MESSAGE and message_of(field).full_name not in met:
                met.add(message_of(field).full_name)
                ahead.append(message_of(field))
