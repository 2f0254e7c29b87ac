"""What holds of any frame at all, and messages made without the codec, for its tests and the fuzzer."""

from collections.abc import Mapping

import msgspec
import pytest
from google.protobuf.message import Message

from contracts.leyline import leyline_pb2 as pb
from contracts.leyline.codec import decode, encode
from contracts.leyline.scan import scan
from contracts.leyline.table import MESSAGES
from contracts.wire import FRAME_BYTES_MAX, WireError

SECOND_NS = 1_000_000_000


def canonical(value: object) -> object:
    """`value` in a form that is equal only if types, all fields and every digit are; order aside."""
    if isinstance(value, msgspec.Struct):
        return type(value), [canonical(getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, Mapping):
        return dict, {key: canonical(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value), [canonical(item) for item in value]
    return type(value), repr(value)


def check_frame(name: str, data: bytes) -> msgspec.Struct | None:
    """Decode `data` as the message called `name`; the message, or None if it is refused.

    Whatever the bytes are: nothing but `WireError` is raised, the fast way and the scanner agree, a refusal
    says where, and a message that is accepted goes to bytes and back unchanged.
    """
    refusal = refused(name, data)
    if refusal is not None:
        assert refusal.startswith(name), f"no path: {refusal}"
        if len(data) <= FRAME_BYTES_MAX:
            with pytest.raises(WireError) as found:
                scan(name, data)
            assert str(found.value) == refusal, "protobuf's own words, which have no place, are never needed"
        return None
    scan(name, data)
    message = decode(MESSAGES[name], data)
    assert canonical(decode(MESSAGES[name], encode(message))) == canonical(message)
    return message


def refused(name: str, data: bytes) -> str | None:
    """Why `data` is refused as the message called `name`; None if it is not."""
    try:
        decode(MESSAGES[name], data)
    except WireError as refusal:
        return str(refusal)
    return None


def plain(message: msgspec.Struct) -> Message:
    """The protobuf message of a struct, made by reflection and the library's own means, without the codec."""
    name = {struct: name for name, struct in MESSAGES.items()}[type(message)]
    wire = getattr(pb, name)()
    for field in message.__struct_fields__:
        _set(wire, field, getattr(message, field))
    return wire  # type: ignore[no-any-return]


def _set(wire: Message, name: str, value: object) -> None:
    """Set one field, whatever it is."""
    field = wire.DESCRIPTOR.fields_by_name.get(name)
    if value is None:
        return
    if field is None:  # a oneof: the struct's tag is the member's name
        member = value.__struct_config__.tag  # type: ignore[attr-defined]
        if member == "rollback_payload":
            wire.rollback_payload.SetInParent()  # type: ignore[attr-defined]
            wire.rollback_payload.update(value.details)  # type: ignore[attr-defined]
        else:
            getattr(wire, member).CopyFrom(plain(value))  # type: ignore[arg-type]
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, msgspec.Struct):
                getattr(wire, name)[key].CopyFrom(plain(item))
            else:
                getattr(wire, name)[key] = item
    elif isinstance(value, tuple):
        getattr(wire, name).extend(
            [plain(item) if isinstance(item, msgspec.Struct) else item for item in value]
        )
    elif isinstance(value, msgspec.Struct):
        getattr(wire, name).CopyFrom(plain(value))
    elif field.message_type is not None:
        assert isinstance(value, int)
        part = getattr(wire, name)
        part.SetInParent()
        if field.message_type.name == "Duration":
            part.FromNanoseconds(value)
        else:
            part.seconds, part.nanos = value // SECOND_NS, value % SECOND_NS
    else:
        setattr(wire, name, value)
