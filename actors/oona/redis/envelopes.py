"""The bus's own envelopes to bytes and back: what the codec would write and read, in a fraction of its time.

Bytes that are not laid out as `wrap` does it are none of this module's business: the codec judges them.
"""

from functools import cache
from typing import Final

import msgspec

from contracts.envelopes import BusMessageType

SMALL_BYTES_MAX: Final = 8 * 1024
"""A larger envelope is for the codec, which looks through it."""
_SHORTEST: Final = 8
_RESTS_MAX: Final = 1_024
_ONE_BYTE, _TWO_BYTES = 1 << 7, 1 << 14
_HEADS: Final = {kind: bytes((0x08, kind, 0x12)) for kind in BusMessageType if kind}
"""The kind, and the tag of the payload."""
_KINDS: Final = {head: kind for kind, head in _HEADS.items()}


class Wrapped(msgspec.Struct, frozen=True, gc=False):
    """An envelope of ours."""

    kind: BusMessageType
    payload: bytes
    sender: str


def wrap(kind: BusMessageType, payload: bytes, event_id: str, rest: bytes) -> bytes | None:
    """An envelope whose attributes are the event id and `rest`; None if the codec has to make it."""
    head = _HEADS.get(kind)
    id_bytes = event_id.encode()
    if head is None or not payload or len(payload) + len(id_bytes) + len(rest) > SMALL_BYTES_MAX:
        return None
    return b"".join((head, _varint(len(payload)), payload, _before_id(len(id_bytes)), id_bytes, rest))


def rest_of(priority: int, sender: str, topic: str) -> bytes:
    """The attributes that many envelopes share, in the codec's order."""
    return b"".join(
        _attribute(name, value.encode())
        for name, value in ((b"priority", str(int(priority))), (b"sender", sender), (b"topic", topic))
    )


class Unwrapping:
    """Reads envelopes whose rest was seen before, in one the codec has read."""

    def __init__(self) -> None:
        self._senders: dict[bytes, tuple[str, int, str]] = {}

    def unwrap(self, data: bytes, event_id: str, priority: int, topic: str) -> Wrapped | None:
        """None if the codec has to read it: it is laid out otherwise, or not what was said of it."""
        kind = _KINDS.get(data[:3])
        if kind is None or not _SHORTEST < len(data) <= SMALL_BYTES_MAX:
            return None
        size, start = data[3], 4
        if size >= _ONE_BYTE:
            more = data[4]
            if not 0 < more < _ONE_BYTE:
                return None
            size, start = size - _ONE_BYTE + (more << 7), 5
        end = start + size
        id_bytes = event_id.encode()
        said = _before_id(len(id_bytes)) + id_bytes
        if not size or not data.startswith(said, end):
            return None
        known = self._senders.get(data[end + len(said) :])
        if known is None or known[1] != priority or known[2] != topic:
            return None
        return Wrapped(kind, data[start:end], known[0])

    def learn(self, sender: str, priority: int, topic: str) -> None:
        """The codec has read an envelope with these attributes."""
        if len(self._senders) >= _RESTS_MAX:
            self._senders.clear()
        self._senders[rest_of(priority, sender, topic)] = (sender, priority, topic)


def _attribute(name: bytes, value: bytes) -> bytes:
    size = _varint(len(value))
    inner = 3 + len(name) + len(size) + len(value)
    return b"\x1a%b\x0a%c%b\x12%b%b" % (_varint(inner), len(name), name, size, value)


@cache
def _before_id(size: int) -> bytes:
    """What stands before an event id of that many bytes."""
    return _attribute(b"event_id", bytes(size))[:-size] if size else _attribute(b"event_id", b"")


@cache
def _varint(number: int) -> bytes:
    """As protobuf writes it; below 16,384 here."""
    if number < _ONE_BYTE:
        return b"%c" % number
    assert number < _TWO_BYTES
    return b"%c%c" % (number & 0x7F | 0x80, number >> 7)
