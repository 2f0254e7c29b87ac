"""The artifact's file: a short prefix, a header in JSON, a body. No length is believed before it is bounded.

magic 8 | version 2 | flags 2 | header's length 4 | stored length of the body 8   (little endian)
header   JSON: kind, specification, certificate, lengths, SHA-256 of the raw body
body     as it is, or deflated (flag 1) where that is shorter and the body above 10 MB
seal     32 bytes, programs only: HMAC-SHA256 of all before it (`esper.urza.seal`)
"""

import hashlib
import struct
import zlib
from typing import NamedTuple, TypeAlias

import msgspec

from contracts.kernels import Certificate, KernelSpec
from esper.urza.errors import Damaged, Unfit
from esper.urza.names import Kind

Bytes: TypeAlias = bytes | bytearray | memoryview

MAGIC = b"\x89URZA\r\n\x1a"
VERSION = 1
PREFIX = struct.Struct("<8sHHIQ")
HEADER_BYTES_MAX = 16_384
ARTIFACT_BYTES_MAX = 100 << 20
"""Of a file; also of what a body may become when it is inflated."""
COMPRESS_ABOVE = 10 << 20
"""Bytes of a body from which on deflating is tried."""
SEAL_BYTES = 32
_DEFLATED = 1
_LEVEL = 1
"""Weights hardly shrink; a higher level takes ten times as long."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an artifact says of itself: enough to find it again when the catalogue is lost."""

    kind: Kind
    spec: KernelSpec
    certificate: Certificate
    raw_bytes: int
    stored_bytes: int
    raw_sha256: str


class Prefix(NamedTuple):
    """The first 24 bytes, within their bounds."""

    deflated: bool
    header_bytes: int
    stored_bytes: int

    @property
    def body_at(self) -> int:
        return PREFIX.size + self.header_bytes


_HEADER = msgspec.json.Decoder(Header)


def pack(kind: Kind, spec: KernelSpec, certificate: Certificate, body: bytes) -> bytes:
    """The artifact's bytes, without a seal.

    Raises:
        Unfit: it would be larger than an artifact may be, or its header can't be read again as it was.
    """
    if len(body) > ARTIFACT_BYTES_MAX:
        raise Unfit(f"the body has {len(body):,} bytes; it may have {ARTIFACT_BYTES_MAX:,}")
    deflated = zlib.compress(body, _LEVEL) if len(body) > COMPRESS_ABOVE else body
    stored = min(body, deflated, key=len)
    digest = hashlib.sha256(body).hexdigest()
    header = Header(kind, spec, certificate, len(body), len(stored), digest)
    try:
        encoded = msgspec.json.encode(header)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unfit(f"this certificate or specification can't be stored: {error}") from None
    prefix = PREFIX.pack(MAGIC, VERSION, _DEFLATED * (stored is not body), len(encoded), len(stored))
    whole = PREFIX.size + len(encoded) + len(stored) + SEAL_BYTES
    if whole > ARTIFACT_BYTES_MAX:
        raise Unfit(f"the artifact has {whole:,} bytes; it may have {ARTIFACT_BYTES_MAX:,}")
    if len(encoded) > HEADER_BYTES_MAX:
        raise Unfit(
            f"certificate and specification take {len(encoded):,} bytes; they may {HEADER_BYTES_MAX:,}"
        )
    try:
        read_header(encoded)
    except Damaged as error:
        raise Unfit(f"this certificate or specification can't be stored: {error.reason}") from None
    return prefix + encoded + stored


def read_prefix(first: Bytes, size: int) -> Prefix:
    """Lengths of an artifact of `size` bytes, seal not counted, from its first bytes.

    Raises:
        Damaged: it is none, or one of another version, or its lengths don't fit its size.
    """
    if size < PREFIX.size or memoryview(first).nbytes < PREFIX.size:
        raise Damaged(f"it has {size} bytes; an artifact has more than {PREFIX.size}")
    magic, version, flags, header_bytes, stored_bytes = PREFIX.unpack_from(first)
    if magic != MAGIC:
        raise Damaged("it does not begin as an artifact does")
    if version != VERSION or flags & ~_DEFLATED:
        raise Damaged(f"it has format {version}, flags {flags}; known is format {VERSION}")
    if header_bytes > HEADER_BYTES_MAX:
        raise Damaged(f"its header claims {header_bytes:,} bytes; it may have {HEADER_BYTES_MAX:,}")
    if PREFIX.size + header_bytes + stored_bytes != size:
        raise Damaged(
            f"its lengths claim {PREFIX.size + header_bytes + stored_bytes:,} bytes; it has {size:,}"
        )
    return Prefix(bool(flags & _DEFLATED), header_bytes, stored_bytes)


def read_header(encoded: Bytes) -> Header:
    """The header, in the one spelling that `pack` gives it.

    Raises:
        Damaged: it is not one.
    """
    try:
        header = _HEADER.decode(encoded)
        same = msgspec.json.encode(header) == bytes(encoded)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise Damaged(f"its header can't be read: {str(error)[:200]}") from None
    if not same:
        raise Damaged("its header is not spelt as this program spells it")
    return header


def unpack(content: Bytes, raw_bytes_max: int) -> tuple[Header, memoryview]:
    """Header and raw body of an artifact without its seal; inflating makes at most `raw_bytes_max` bytes.

    Raises:
        Damaged: a length, the header or the body is not as it must be.
    """
    view = memoryview(content)
    prefix = read_prefix(view[: PREFIX.size], view.nbytes)
    header = read_header(view[PREFIX.size : prefix.body_at])
    if header.stored_bytes != prefix.stored_bytes:
        raise Damaged("its header and its prefix claim different lengths")
    if not 0 <= header.raw_bytes <= raw_bytes_max:
        raise Damaged(f"its body claims {header.raw_bytes:,} bytes; it may have {raw_bytes_max:,}")
    stored = view[prefix.body_at :]
    raw = _inflated(stored, header.raw_bytes) if prefix.deflated else stored
    if raw.nbytes != header.raw_bytes:
        raise Damaged(f"its body has {raw.nbytes:,} bytes; its header claims {header.raw_bytes:,}")
    if hashlib.sha256(raw).hexdigest() != header.raw_sha256:
        raise Damaged("its body has another digest than its header claims")
    return header, raw


def _inflated(stored: memoryview, raw_bytes: int) -> memoryview:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(stored, raw_bytes + 1)
    except zlib.error as error:
        raise Damaged(f"its body can't be inflated: {error}") from None
    if len(raw) > raw_bytes or not inflater.eof or inflater.unused_data:
        raise Damaged(f"its body does not inflate to the {raw_bytes:,} bytes that it claims")
    return memoryview(bytearray(raw))
