"""Leyline's messages a second time, with maps as lists of entries that lack nothing.

protobuf reads past much: unknown fields, a field that is there twice, a second member of a oneof, a map's
key that is there twice. Less its unknown fields the message is then shorter than its frame, and its size
shows it at hardly any cost. But a map's entry that lacked its key or its value gets it back, which makes the
message longer again, so that the two could cancel out in a frame made for it. In the twin both are required.
"""

from collections.abc import Iterable

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

from contracts.leyline import leyline_pb2

_FILES = (
    timestamp_pb2.DESCRIPTOR,
    duration_pb2.DESCRIPTOR,
    struct_pb2.DESCRIPTOR,
    leyline_pb2.DESCRIPTOR,
)


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for descriptor in _FILES:
        file = FileDescriptorProto()
        descriptor.CopyToProto(file)
        file.syntax = "proto2"  # where fields can be required
        _require(file.message_type)
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _require(messages: Iterable[DescriptorProto]) -> None:
    """Make maps into lists of entries that must have both of their fields."""
    for message in messages:
        if message.options.map_entry:
            message.options.ClearField("map_entry")
            for field in message.field:
                field.label = FieldDescriptorProto.LABEL_REQUIRED
        _require(message.nested_type)


_POOL = _pool()


def twin_of(message: Descriptor) -> type[Message]:
    """The twin of a message."""
    return GetMessageClass(_POOL.FindMessageTypeByName(message.full_name))


def lacks_nothing(twin: Message, data: bytes) -> bool:
    """Whether each map's entry in `data`, which the message itself could read, has its key and its value."""
    twin.ParseFromString(data)
    try:
        twin.SerializeToString()
    except EncodeError:
        return False
    return True
