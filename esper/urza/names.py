"""How artifacts are called: by the SHA-256 of their bytes and by their kind."""

import os
import re
from enum import StrEnum

import msgspec

from esper.urza.errors import Missing

_ASIDE = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}\.(kernel|program)", re.ASCII)
_REF = re.compile(r"([0-9a-f]{64})\.(kernel|program)", re.ASCII)


class Kind(StrEnum):
    """What an artifact's body is."""

    KERNEL = "kernel"  # initial values, safetensors: data only
    PROGRAM = "program"  # the native compiler's artifacts: code, given out only under this store's own seal


class ArtifactRef(msgspec.Struct, frozen=True):
    """A stored artifact."""

    ref: str
    """`<sha256>.<kind>`, its file's name."""
    checksum: str
    """SHA-256 of the file's bytes, 64 hexadecimal digits."""
    size: int
    """Bytes of the file."""


def ref_of(checksum: str, kind: Kind) -> str:
    return f"{checksum}.{kind}"


def parts(ref: str) -> tuple[str, Kind]:
    """Checksum and kind.

    Raises:
        Missing: this names no artifact; nothing was looked up.
    """
    match = _REF.fullmatch(ref)
    if match is None:
        raise Missing(
            f"{ref[:80]!r} names no artifact; a name is 64 hexadecimal digits and .kernel or .program"
        )
    return match[1], Kind(match[2])


def is_ref(name: str) -> bool:
    return _REF.fullmatch(name) is not None


def aside_of(ref: str) -> str:
    """A name in quarantine that no file has yet."""
    return f"{os.urandom(8).hex()}-{ref}"


def is_aside(name: str) -> bool:
    return _ASIDE.fullmatch(name) is not None
