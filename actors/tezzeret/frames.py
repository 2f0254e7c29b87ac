"""What goes through the pipes between a sandbox and its process: framed bytes, every length bounded.

    magic (4) │ kind (1) │ header length (4) │ body length (4) │ header │ body        big-endian

A length is checked before anything is kept for it, and room is taken only as bytes arrive, so that a lying
length costs nothing.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAGIC: Final = b"EsTz"
_PREFIX: Final = struct.Struct(">4sBII")
PREFIX_BYTES: Final = _PREFIX.size
HEADER_BYTES_MAX: Final = 1 << 20
BODY_BYTES_MAX: Final = 256 << 20
SMALL_BYTES_MAX: Final = 64 << 10
"""Header of a frame that carries no work: greetings, progress, errors. It has no body."""


class Kind(IntEnum):
    HELLO = 1
    """The process is up; its header says how it is confined."""
    READY = 2
    """Its module is imported, and it takes jobs."""
    JOB = 3
    PROGRESS = 4
    ANSWER = 5
    ERROR = 6
    """The handler raised; the header is the error in words, and the process lives on."""
    NO_MEMORY = 7
    """The same, because memory was refused to it."""


_WITH_BODY: Final = {Kind.JOB, Kind.ANSWER}


class BadFrame(ValueError):
    """What came through the pipe is no frame, or one that is too large."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    header: bytes
    body: bytes = b""


def encode(frame: Frame) -> bytes:
    """The frame's bytes.

    Raises:
        BadFrame: it is too large.
    """
    _check(frame.kind, len(frame.header), len(frame.body))
    prefix = _PREFIX.pack(MAGIC, frame.kind, len(frame.header), len(frame.body))
    return b"".join((prefix, frame.header, frame.body))


class Decoder:
    """Makes frames out of bytes as they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now.

        Raises:
            BadFrame: see there; nothing after it can be read.
        """
        self._bytes += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    @property
    def halfway(self) -> bool:
        """A frame has begun and is not whole."""
        return bool(self._bytes)

    def _next(self) -> Frame | None:
        if len(self._bytes) < PREFIX_BYTES:
            return None
        kind, header_bytes, body_bytes = _prefix(self._bytes)
        body_at = PREFIX_BYTES + header_bytes
        end = body_at + body_bytes
        if len(self._bytes) < end:
            return None
        with memoryview(self._bytes) as view:
            frame = Frame(kind, bytes(view[PREFIX_BYTES:body_at]), bytes(view[body_at:end]))
        del self._bytes[:end]
        return frame


def _prefix(data: bytearray) -> tuple[Kind, int, int]:
    magic, number, header_bytes, body_bytes = _PREFIX.unpack_from(data)
    if magic != MAGIC or number not in set(Kind):
        raise BadFrame(f"the pipe carries no frame but {bytes(data[:PREFIX_BYTES])!r}")
    kind = Kind(number)
    _check(kind, header_bytes, body_bytes)
    return kind, header_bytes, body_bytes


def _check(kind: Kind, header_bytes: int, body_bytes: int) -> None:
    header_max = HEADER_BYTES_MAX if kind in _WITH_BODY else SMALL_BYTES_MAX
    body_max = BODY_BYTES_MAX if kind in _WITH_BODY else 0
    if header_bytes > header_max or body_bytes > body_max:
        raise BadFrame(
            f"a frame of kind {kind.name} with {header_bytes} + {body_bytes} bytes is too large; "
            f"it takes up to {header_max} + {body_max}"
        )
