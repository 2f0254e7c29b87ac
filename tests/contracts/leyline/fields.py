"""Every field of Leyline, and frames with one of them."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from contracts.leyline.kinds import Kind, is_map, kind_of, value_of
from tests.contracts.leyline.bytes import least
from tests.contracts.leyline.strategies import WIRE

FIELDS = [(name, field) for name, message in WIRE.items() for field in message.fields]
VERSIONED = sorted(name for name, message in WIRE.items() if "version" in message.fields_by_name)


def of(*kinds: Kind) -> list[tuple[str, FieldDescriptor]]:
    """Every field of these kinds, with its message's name; a map is of its value's kind."""
    return [
        (name, field)
        for name, field in FIELDS
        if kind_of(value_of(field) if is_map(field) else field) in kinds
    ]


def ids(case: object) -> str:
    return case.name if isinstance(case, FieldDescriptor) else str(case)


def put(message: Descriptor, field: FieldDescriptor, content: bytes) -> bytes:
    """A frame of `message` with `content` for `field`, and nothing else but what must be."""
    return (b"" if field.name == "version" else least(message)) + content
