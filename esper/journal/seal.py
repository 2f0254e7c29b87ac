"""A digest over the values of a row: what a disk has changed is not taken for what was written."""

import hashlib

from esper.database import Value

SEAL_BYTES = 16


def seal(table: str, *values: Value) -> bytes:
    """BLAKE2b over the table's name and the values, each with its length before it."""
    pieces: list[bytes] = []
    for value in (table, *values):
        content = value if isinstance(value, bytes) else plain(value)
        pieces += len(content).to_bytes(8, "little"), content
    return hashlib.blake2b(b"".join(pieces), digest_size=SEAL_BYTES).digest()


def plain(value: Value) -> bytes:
    """A value's bytes; a text's are those that SQLite stores."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else b"%d" % value


def storable(text: str) -> str:
    """The same text, where it has a lone surrogate with that written out: SQLite stores UTF-8."""
    return text.encode(errors="backslashreplace").decode()
