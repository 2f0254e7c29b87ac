"""Messages to bytes and back; the package's docstring has the rules."""

from typing import Any, NamedTuple, TypeVar

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


class _Kept(NamedTuple):
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


def _kept(form: Form[Any, Any]) -> _Kept:
    wire = form.wire.DESCRIPTOR
    inside = list(messages_in(wire))
    has_maps = any(message.GetOptions().map_entry for message in inside)
    has_durations = any(message.full_name == Kind.DURATION for message in inside)
    return _Kept(form, wire.name, twin_of(wire) if has_maps else None, has_durations, sieve(wire.name))


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
    form, name = kept.form, kept.name
    wire = form.wire()
    try:
        form.write(message, wire)
        data: bytes = wire.SerializeToString(deterministic=True)
    except (*REFUSED, EncodeError) as error:
        raise WireError(blame(message, form.wire.DESCRIPTOR) or f"{name}: {error}") from error
    if len(data) > kept.sieve.light_bytes and (len(data) > TRUSTED_BYTES_MAX or not kept.sieve.passes(data)):
        _check_size(name, data)
        scan(name, data)
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
    form, name, twin, scanned, sieve_ = kept
    size = len(data)
    if size > TRUSTED_BYTES_MAX:
        _check_size(name, data)
        scanned = True
    if scanned or (size > sieve_.light_bytes and not sieve_.passes(data)):
        scanned = True
        scan(name, data)
    wire = form.wire()
    try:
        wire.ParseFromString(data)
        if not scanned:
            wire.DiscardUnknownFields()
            if wire.ByteSize() != size or (twin is not None and not lacks_nothing(twin(), data)):
                scan(name, data)  # which finds what is too much, or nothing
        message: T = form.read(wire)
    except (DecodeError, WireError) as error:
        scan(name, data)  # which says where
        raise WireError(f"{name}: {error}") from error
    return message


def _check_size(name: str, data: bytes) -> None:
    if len(data) > FRAME_BYTES_MAX:
        raise WireError(f"{name}: {len(data)} bytes; a frame holds at most {FRAME_BYTES_MAX}")
