"""Looks at the end of a write-ahead log that a process left behind when it was killed.

SQLite takes in the frames up to the last whole transaction and ignores what follows without a word. A killed
process explains frames that are sound and end in no commit. Anything else was torn by a power cut, or was
damaged since: then transactions may be missing that had been acknowledged, and that has to be said.

Source: "Database File Format", section 4, https://www.sqlite.org/fileformat2.html#walformat
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

HEADER = struct.Struct(">8I")
"""Magic number, version, page size, checkpoint, two salts, two checksums."""
FRAME = struct.Struct(">6I")
"""Page number, size of the database after a commit (else 0), two salts, two checksums; a page follows."""
MAGIC = 0x377F0682
"""The lowest bit says that checksums are over big-endian words."""
WAL_BYTES_MAX = 64 << 20
"""A longer one is not looked at; the journal's own is cut at a fraction of it."""
Sums: TypeAlias = tuple[int, int]


class _Frame(NamedTuple):
    commit: int
    salts: tuple[int, int]
    sums: Sums
    content: bytes
    """What its checksum is over."""


def torn_end(wal: bytes, recovered: int) -> str:
    """What is wrong behind the `recovered` frames that SQLite took in; empty if a kill explains it."""
    if len(wal) <= HEADER.size:
        return ""
    magic, _, page_bytes, _, *salts, one, two = HEADER.unpack_from(wal)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != MAGIC or _sums(wal[:24], order, (0, 0)) != (one, two):
        return "its header is damaged, and nothing of it could be read"
    frames = list(_frames(wal, page_bytes))
    if recovered > len(frames):
        return ""  # written since
    sums = frames[recovered - 1].sums if recovered else (one, two)
    rest = frames[recovered:]
    ours = tuple(salts)
    while rest and rest[0].salts == ours and not rest[0].commit:
        sums = _sums(rest[0].content, order, sums)
        if sums != rest[0].sums:
            break
        rest = rest[1:]
    # A frame that an earlier round has left shares neither salt.
    lost = sum(any(a == b for a, b in zip(frame.salts, ours, strict=True)) for frame in rest)
    return f"{lost} of its {len(frames)} frames could not be read" if lost else ""


def _frames(wal: bytes, page_bytes: int) -> Iterator[_Frame]:
    """The whole ones; a piece at the end was never finished."""
    size = FRAME.size + page_bytes
    for start in range(HEADER.size, len(wal) - size + 1, size):
        _, commit, salt_1, salt_2, one, two = FRAME.unpack_from(wal, start)
        content = wal[start : start + 8] + wal[start + FRAME.size : start + size]
        yield _Frame(commit, (salt_1, salt_2), (one, two), content)


def _sums(content: bytes, order: str, before: Sums) -> Sums:
    """SQLite's checksum, going on from `before`; the number of bytes is a multiple of 8."""
    one, two = before
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two
