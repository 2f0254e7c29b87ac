"""The disks that a power cut may leave, built from the calls of a process.

What was synced is there. Of what was written to a file since its last sync any part may be: a write, a few
of its sectors, later ones without earlier ones. Names (made, moved, removed) come to the disk in their order,
as a file system's journal writes them, but how many of them since the folder's last sync is anybody's guess;
syncing a file says nothing about its name.
"""

import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.syscalls import Call

SECTOR = 512
Write: TypeAlias = tuple[int, bytes | None]
"""An offset and what is written there; None cuts the file off there, or fills it up with zeros."""
Names: TypeAlias = dict[Path, "_File"]
NameChange: TypeAlias = Callable[[Names], None]


@dataclass(eq=False)
class _File:
    """A file's bytes on the disk, and what may or may not come to be there."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[Write] = field(default_factory=list)


class Disk:
    """Follows the calls of a process in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._now: Names = {}
        """The names as the process sees them."""
        self._synced: Names = {}
        self._since: list[tuple[Path, NameChange]] = []
        """Changes of names, with the folder that they are in."""
        self._folders: set[Path] = set()

    def take(self, call: Call) -> None:
        """The call is carried out."""
        match call.name:
            case "write" | "pwrite64":
                self._file(call.paths[0]).since.append((call.offset, call.content))
            case "ftruncate":
                self._file(call.paths[0]).since.append((call.arguments[1], None))
            case "fsync" | "fdatasync":
                self._sync(call.paths[0])
            case "openat" if call.arguments[2] & os.O_CREAT:
                self._make(call.paths[0])
            case "rename":
                source, target = call.paths
                self._rename(target, lambda names: names.__setitem__(target, names.pop(source)))
            case "unlink":
                gone = call.paths[0]
                self._rename(gone, lambda names: names.pop(gone, None) and None)
            case "mkdir":
                self._folders.add(call.paths[0])
            case _:
                raise NotImplementedError(f"no power cut is written down for {call.name}")

    def cut(self, here: Path, chance: random.Random | None, kept: float) -> None:
        """Lay out what a power cut now leaves in the folder `here`.

        Of what was not synced the share `kept` is there, piece by piece by `chance`; all or nothing without.
        """
        lucky = (lambda: kept >= 1) if chance is None else (lambda: chance.random() < kept)
        names = dict(self._synced)
        for _, change in self._kept_changes(lucky):
            change(names)
        for folder in sorted(self._folders):
            (here / folder.relative_to(self._folder)).mkdir(parents=True, exist_ok=True)
        for path, file in names.items():
            (here / path.relative_to(self._folder)).write_bytes(_after_cut(file, lucky))

    def _kept_changes(self, lucky: Callable[[], bool]) -> Iterator[tuple[Path, NameChange]]:
        for change in self._since:
            if not lucky():
                return
            yield change

    def _file(self, path: Path) -> _File:
        return self._now.setdefault(path, _File())

    def _make(self, path: Path) -> None:
        if path not in self._now:
            new = _File()
            self._rename(path, lambda names: names.setdefault(path, new) and None)

    def _rename(self, where: Path, change: NameChange) -> None:
        change(self._now)
        self._since.append((where.parent, change))

    def _sync(self, path: Path) -> None:
        if path == self._folder or path in self._folders:
            last = max((at for at, (folder, _) in enumerate(self._since) if folder == path), default=-1)
            for _, change in self._since[: last + 1]:  # in their order: what came before is there, too
                change(self._synced)
            del self._since[: last + 1]
            return
        file = self._file(path)
        for write in file.since:
            _carry_out(file.synced, *write)
        file.since.clear()


def _after_cut(file: _File, lucky: Callable[[], bool]) -> bytes:
    content = bytearray(file.synced)
    for offset, written in file.since:
        if written is None:
            if lucky():
                _carry_out(content, offset, None)
            continue
        for at, sector in _sectors(offset, written):
            if lucky():
                _carry_out(content, at, sector)
    return bytes(content)


def _sectors(offset: int, written: bytes) -> Sequence[tuple[int, bytes]]:
    """The pieces of a write that a disk writes whole or not."""
    cuts = [0, *range(SECTOR - offset % SECTOR, len(written), SECTOR), len(written)]
    return [(offset + one, written[one:two]) for one, two in itertools.pairwise(cuts)]


def _carry_out(content: bytearray, offset: int, written: bytes | None) -> None:
    if written is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(written)] = written
