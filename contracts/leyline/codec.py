"""Messages to bytes and back; the package's docstring has the rules."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import DecodeError, EncodeError, Message

from contracts.leyline.blame import blame
from contracts.leyline.form import Form
from contracts.leyline.kinds import Kind, messages_in
from contracts.leyline.mapping import FORMS
from contracts.leyline.scan import PARTS_MAX, scan
from contracts.leyline.schema import sieve
from contracts.leyline.twin import lacks_nothing, twin_of
from contracts.leyline.values import REFUSED
from contracts.leyline.weight import Sieve
from contracts.wire import FRAME_BYTES_MAX, WireError

T = TypeVar("T", bound=msgspec.Struct)

TRUSTED_BYTES_MAX = 2 * PARTS_MAX
"""A frame of this size has no room for more than `PARTS_MAX` parts; a larger one is scanned first."""


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """What the codec keeps of a message."""

    form: Form[Any, Any]
    name: str
    twin: type[Message] | None
    """Where there are maps in it."""
    scanned: bool
    """Whether each frame is scanned: a duration's negative nanoseconds take 5 bytes or 10, and the size of
    the message does not tell which."""
    sieve: Sieve
    """What it does not let through is scanned, too."""
    light_bytes: int
    """A frame of this size is neither too large to be trusted nor too heavy, whatever is in it."""
    serialize: Callable[..., bytes]
    parse: Callable[[Message, bytes], object]
    discard: Callable[[Message], object]
    """Methods of its class: to look one up on a message takes about as long as it takes itself."""


def _kept(form: Form[Any, Any]) -> _Kept:
    wire = form.wire.DESCRIPTOR
    inside = list(messages_in(wire))
    has_maps = any(message.GetOptions().map_entry for message in inside)
    has_durations = any(message.full_name == Kind.DURATION for message in inside)
    twin, sieve_ = twin_of(wire) if has_maps else None, sieve(wire.name)
    light_bytes = min(sieve_.light_bytes, TRUSTED_BYTES_MAX)
    methods = form.wire.SerializeToString, form.wire.ParseFromString, form.wire.DiscardUnknownFields
    return _Kept(form, wire.name, twin, has_durations, sieve_, light_bytes, *methods)


_KEPT: dict[type, _Kept] = {form.struct: _kept(form) for form in FORMS}


def encode(message: msgspec.Struct) -> bytes:
    """The bytes of `message`, at most `FRAME_BYTES_MAX`.

    Raises:
        WireError: the message can't travel; the text names the field. Nothing is cut, rounded or left out to
            make it fit, except that a 32 bit float holds 32 bits.
    """
    kept = _KEPT.get(type(message))
    if kept is None:
        raise WireError(f"a {type(message).__name__} is no message of Leyline")
    form = kept.form
    wire = form.wire()
    try:
        form.write(message, wire)
        data = kept.serialize(wire, deterministic=True)
    except (*REFUSED, EncodeError) as error:
        why = blame(message, form.wire.DESCRIPTOR) or f"{kept.name}: {error}"
        raise WireError(why) from error
    if len(data) > kept.light_bytes and not _light(kept, data):
        _check_size(kept.name, data)
        scan(kept.name, data)
    return data


def decode(type_: type[T], data: bytes) -> T:
    """The message of type `type_` whose bytes are `data`.

    Raises:
        WireError: `data` is none; the text says what is wrong, the path to it, and its offset.
    """
    kept = _KEPT.get(type_)
    if kept is None:
        raise WireError(f"{getattr(type_, '__name__', type_)} is no message of Leyline")
    if not isinstance(data, bytes):
        raise WireError(f"a frame is bytes; this is a {type(data).__name__}")
    form = kept.form
    scanned = kept.scanned or (len(data) > kept.light_bytes and not _light(kept, data))
    if scanned:
        _check_size(kept.name, data)
        scan(kept.name, data)
    wire = form.wire()
    try:
        kept.parse(wire, data)
        if not (scanned or _nothing_dropped(kept, wire, data)):
            scan(kept.name, data)  # which finds what is too much, or nothing
        message: T = form.read(wire)
    except (DecodeError, WireError) as error:
        scan(kept.name, data)  # which says where
        raise WireError(f"{kept.name}: {error}") from error
    return message


def _light(kept: _Kept, data: bytes) -> bool:
    """Whether a frame is small enough to be trusted, and can't be too heavy."""
    return len(data) <= TRUSTED_BYTES_MAX and kept.sieve.passes(data)


def _nothing_dropped(kept: _Kept, wire: Message, data: bytes) -> bool:
    """Whether all that is in the frame came to be in `wire`, its message; False where that is not sure.

    A message that knows all its fields is written with each singular field once, one member of a oneof, and
    each key of a map once, beside its value. A frame that is written like that again, byte for byte, is what
    was written: it has no more in it. All that `encode` gives is. Of others the size tells, and the twin.
    """
    kept.discard(wire)
    if kept.twin is None:
        return wire.ByteSize() == len(data)
    if kept.serialize(wire, deterministic=True) == data:
        return True
    return wire.ByteSize() == len(data) and lacks_nothing(kept.twin(), data)


def _check_size(name: str, data: bytes) -> None:
    if len(data) > FRAME_BYTES_MAX:
        raise WireError(f"{name}: {len(data)} bytes; a frame holds at most {FRAME_BYTES_MAX}")
