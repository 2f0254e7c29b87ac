"""Frames written by hand, field by field, so that they can be wrong."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from contracts.leyline.kinds import message_of
from contracts.leyline.schema import FIXED32, FIXED64, LENGTH, VARINT

NO_UTF8 = b"\xff"


def varint(value: int, size: int = 1) -> bytes:
    """An integer in at least `size` bytes; one is the shortest way, more are as good."""
    groups = []
    while value or len(groups) < size:
        groups.append(value & 0x7F)
        value >>= 7
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def integer(number: int, value: int, size: int = 1) -> bytes:
    """A field of integers, enums or bools."""
    return tag(number, VARINT) + varint(value, size)


def block(number: int, content: bytes) -> bytes:
    """A field of text, bytes or a message."""
    return tag(number, LENGTH) + varint(len(content)) + content


def four(number: int, content: bytes = b"\0\0\x80\x3f") -> bytes:
    """A field of floats."""
    return tag(number, FIXED32) + content


def eight(number: int, content: bytes = b"\0\0\0\0\0\0\xf0\x3f") -> bytes:
    """A field of doubles."""
    return tag(number, FIXED64) + content


def entry(number: int, key: bytes, value: bytes) -> bytes:
    """An entry of a map; `value` is the whole field 2."""
    return block(number, block(1, key) + value)


def some(field: FieldDescriptor) -> bytes:
    """One occurrence of a field, valid and not its default where a scalar."""
    match field.type:
        case FieldDescriptor.TYPE_STRING | FieldDescriptor.TYPE_BYTES:
            return block(field.number, b"x")
        case FieldDescriptor.TYPE_FLOAT:
            return four(field.number)
        case FieldDescriptor.TYPE_DOUBLE:
            return eight(field.number)
        case FieldDescriptor.TYPE_MESSAGE:
            return block(field.number, least(message_of(field)))
        case _:
            return integer(field.number, 1)


def least(message: Descriptor) -> bytes:
    """The shortest valid frame of a message."""
    if message.full_name == "google.protobuf.Value":
        return integer(1, 0)
    return integer(1, 1) if "version" in message.fields_by_name else b""
