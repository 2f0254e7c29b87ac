"""The manifest: a digest of the rest, a line of JSON about the tensors' file, and the record, byte for byte.

9f86d0…                                  SHA-256 of all that follows, in hexadecimal
{"schema":1,"number":12,"epoch":40,…}    what the checkpoint is, and its tensors' name, bytes and SHA-256
{…}                                      the record: whatever was handed in
"""

import hashlib
from typing import Annotated, Final, TypeVar

import msgspec

from esper.checkpoint.errors import Damaged

SCHEMA: Final = 1
MANIFEST_BYTES_MAX: Final = 256 << 20
RECORD_BYTES_MAX: Final = 128 << 20
"""The rest is for names of tensors."""
TENSOR_BYTES_MAX: Final = 64 << 30
EPOCH_MAX: Final = (1 << 53) - 1

T = TypeVar("T")

Count = Annotated[int, msgspec.Meta(ge=0, le=EPOCH_MAX)]


class TensorsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which file a manifest speaks of, and what must be in it."""

    name: str
    bytes: Annotated[int, msgspec.Meta(ge=0, le=TENSOR_BYTES_MAX)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    pairs: tuple[str, ...] = ()
    """Tensors of complex128, kept as pairs of float64."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint without its record."""

    schema: int
    number: Count
    epoch: Count
    tensors: TensorsFile


class _Version(msgspec.Struct, frozen=True):
    schema: int


def manifest_of(head: Head, record: bytes) -> bytes:
    """The file's content."""
    rest = msgspec.json.encode(head) + b"\n" + record
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def read_manifest(content: bytes | bytearray) -> tuple[Head, bytes]:
    """The head and the record.

    Raises:
        Damaged: it is not as it was written, or of another schema; the message goes on from the file's name.
    """
    claimed, _, rest = bytes(content).partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != claimed:
        raise Damaged("is not what was written: its digest is another")
    line, found, record = rest.partition(b"\n")
    if not found:
        raise Damaged("has no record")
    schema = _decoded(line, _Version).schema
    if schema != SCHEMA:
        raise Damaged(f"is of schema {schema}; this esper reads schema {SCHEMA}")
    return _decoded(line, Head), record


def _decoded(line: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged(f"has a head that can't be read: {str(error)[:200]}") from None
