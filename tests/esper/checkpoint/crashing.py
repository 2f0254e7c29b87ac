"""A disk in memory that knows what of it a power cut can take, and the file operations on it.

What is written lies in the cache. A file's content is durable after the file's `sync`, a name after its
folder's. Until then every change of a folder is durable or not, each for itself and in any order; and every
write of a file has arrived, or not, or in part, or left zeros behind. After a `sync` that failed, what it
should have written never arrives by a later one. `images` are the disks that can be found afterwards.
"""

import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

from esper.checkpoint.files import NewFile

Image: TypeAlias = "tuple[tuple[str, bytes | Image], ...]"
"""A folder as it is found after the cut: names, each with its content or with a folder."""
Node: TypeAlias = "Content | Folder"
RUN = Path("/out/run")
"""The run's folder; nothing has made its name durable."""


class Write(NamedTuple):
    at: int
    data: bytes


@dataclass
class Content:
    """A plain file."""

    durable: bytes = b""
    pending: list[Write] = field(default_factory=list)
    forsaken: int = 0
    """How many of the first pending writes will never arrive."""

    def now(self) -> bytes:
        return _written(self.durable, self.pending)

    def sync(self) -> None:
        if not self.forsaken:
            self.durable, self.pending = self.now(), []

    def found(self) -> list[bytes]:
        """What can be found of it; the first is the least, the last is all."""
        writes = self.pending
        found = [self.durable]
        for number, write in enumerate(writes):
            before, after = writes[:number], writes[number + 1 :]
            torn = write._replace(data=write.data[: len(write.data) // 2])
            zeros = write._replace(data=bytes(len(write.data)))
            found += [_written(self.durable, [*before, one]) for one in (torn, zeros)]
            found.append(_written(self.durable, [*before, *after]))
            found.append(_written(self.durable, [*before, write]))
        return list(dict.fromkeys(found))


class Change(NamedTuple):
    """One operation on a folder's names."""

    gone: str | None
    come: tuple[str, Node] | None

    def apply(self, names: dict[str, Node]) -> None:
        if self.gone is not None:
            names.pop(self.gone, None)
        if self.come is not None:
            names[self.come[0]] = self.come[1]


@dataclass
class Folder:
    durable: dict[str, Node] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def now(self) -> dict[str, Node]:
        names = dict(self.durable)
        for change in self.pending:
            change.apply(names)
        return names

    def sync(self) -> None:
        self.durable, self.pending = self.now(), []


def a_disk() -> Folder:
    """A new disk, with a run's folder that was just made."""
    out = Folder(pending=[Change(None, (RUN.name, Folder()))])
    return Folder(durable={RUN.parent.name: out})


def disk_of(image: Image) -> Folder:
    """A disk that was found."""
    return Folder(
        {name: Content(inside) if isinstance(inside, bytes) else disk_of(inside) for name, inside in image}
    )


def images(disk: Folder, limit: int, draw: random.Random) -> set[Image]:
    """What can be found after a power cut now: everything, or where that is more than `limit`, a sample.

    The disk on which nothing pending arrived and the one on which all did are always there.
    """
    found = set()
    for number, choose in enumerate(_choices()):
        if number > limit:
            break
        found.add(_image(disk, choose))
    else:
        return found
    found = {_image(disk, lambda count: 0), _image(disk, lambda count: count - 1)}
    return found | {_image(disk, draw.randrange) for _ in range(limit)}


def _choices() -> Iterator[Callable[[int], int]]:
    """Every way to choose, in turn: each yielded function answers one run's questions."""
    script: list[tuple[int, int]] = []
    while True:
        asked = 0

        def choose(count: int) -> int:
            nonlocal asked
            if asked == len(script):
                script.append((0, count))
            asked += 1
            return script[asked - 1][0]

        yield choose
        while script and script[-1][0] + 1 == script[-1][1]:
            script.pop()
        if not script:
            return
        chosen, count = script[-1]
        script[-1] = (chosen + 1, count)


def _image(folder: Folder, choose: Callable[[int], int]) -> Image:
    names = dict(folder.durable)
    for change in folder.pending:
        if choose(2):
            change.apply(names)
    return tuple((name, _found(names[name], choose)) for name in sorted(names))


def _found(node: Node, choose: Callable[[int], int]) -> "bytes | Image":
    if isinstance(node, Folder):
        return _image(node, choose)
    found = node.found()
    return found[choose(len(found))]


def _written(content: bytes, writes: list[Write]) -> bytes:
    """Content after some writes; what lies before one and was not written is zeros."""
    for at, data in writes:
        content = content[:at].ljust(at, b"\0") + data + content[at + len(data) :]
    return content


class Died(BaseException):
    """The process is no more: nothing that it would still do has any effect."""


def _nothing(step: str) -> None:
    return None


@dataclass
class DiskFiles:
    """`esper.checkpoint.files.Files` on such a disk."""

    disk: Folder
    before: Callable[[str], None] = _nothing
    """Called with each operation's name before it; may raise `OSError`, or `Died`."""
    after: Callable[[str], None] = _nothing
    """Called after each operation that changed something."""
    write_max: int = 1 << 30
    """Bytes that one write takes."""

    def make_folder(self, folder: Path) -> None:
        self.before("make_folder")
        parent = self._folder(folder.parent)
        if folder.name not in parent.now():
            parent.pending.append(Change(None, (folder.name, Folder())))
        self.after("make_folder")

    def names(self, folder: Path) -> list[str]:
        self.before("names")
        return list(self._folder(folder).now())

    def size(self, file: Path) -> int:
        self.before("size")
        return len(self._content(file).now())

    def read(self, file: Path, bytes_max: int, begin: int = 0) -> bytearray:
        self.before("read")
        return bytearray(self._content(file).now()[begin : begin + bytes_max])

    def create(self, file: Path) -> NewFile:
        self.before("create")
        parent = self._folder(file.parent)
        if file.name in parent.now():
            raise _error(errno.EEXIST)
        content = Content()
        parent.pending.append(Change(None, (file.name, content)))
        self.after("create")
        return DiskFile(self, content)

    def rename(self, source: Path, target: Path) -> None:
        self.before("rename")
        parent = self._folder(source.parent)
        assert source.parent == target.parent
        node = parent.now().get(source.name)
        if node is None:
            raise _error(errno.ENOENT)
        parent.pending.append(Change(source.name, (target.name, node)))
        self.after("rename")

    def remove(self, file: Path) -> None:
        self.before("remove")
        parent = self._folder(file.parent)
        if file.name not in parent.now():
            raise _error(errno.ENOENT)
        parent.pending.append(Change(file.name, None))
        self.after("remove")

    def sync_folder(self, folder: Path) -> None:
        self.before("sync_folder")
        self._folder(folder).sync()
        self.after("sync_folder")

    def _folder(self, path: Path) -> Folder:
        node = self._node(path)
        if not isinstance(node, Folder):
            raise _error(errno.ENOTDIR)
        return node

    def _content(self, path: Path) -> Content:
        node = self._node(path)
        if not isinstance(node, Content):
            raise _error(errno.EINVAL)
        return node

    def _node(self, path: Path) -> Node:
        node: Node = self.disk
        for name in path.parts[1:]:
            names = node.now() if isinstance(node, Folder) else {}
            if name not in names:
                raise _error(errno.ENOENT)
            node = names[name]
        return node


@dataclass
class DiskFile:
    """`esper.checkpoint.files.NewFile` on such a disk."""

    files: DiskFiles
    content: Content
    at: int = 0

    def write(self, content: memoryview) -> int:
        taken = bytes(content[: self.files.write_max])
        try:
            self.files.before("write")
        except OSError:
            self._put(taken[: len(taken) // 2])  # it filled what was left
            raise
        self._put(taken)
        self.files.after("write")
        return len(taken)

    def sync(self) -> None:
        try:
            self.files.before("sync")
        except OSError:
            self.content.forsaken = len(self.content.pending)
            raise
        self.content.sync()
        self.files.after("sync")

    def _put(self, data: bytes) -> None:
        self.content.pending.append(Write(self.at, data))
        self.at += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
