"""Artifact files behind an fsspec address: the same promises as far as the other side keeps them.

A name is shown by a move. Where the other side copies for that, a half-made copy can be seen after a
crash; its digest is then wrong, and it is set aside when the store is opened.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from esper.urza.errors import Damaged, Unavailable
from esper.urza.names import is_ref
from esper.urza.objects import CHUNK_BYTES, OBJECTS, QUARANTINE, STAGED, lone


def resolved(address: str) -> tuple[AbstractFileSystem | None, str]:
    """File system and path of an address; None for the machine's own, which has a better way.

    Raises:
        Unavailable: nothing installed here knows such an address.
    """
    try:
        files, root = url_to_fs(address)
    except (ValueError, ImportError, OSError) as error:
        raise Unavailable(f"{address!r} is no address that fsspec can reach here: {error}") from None
    return (None if isinstance(files, LocalFileSystem) else files), str(root)


class RemoteObjects:
    """See `esper.urza.objects.Objects`."""

    def __init__(self, files: AbstractFileSystem, root: str, user: str) -> None:
        self._files = files
        self._base = root.rstrip("/")
        self._user = user
        self._count = 0
        with _told():
            for folder in (OBJECTS, STAGED, QUARANTINE):
                files.makedirs(self._path(folder), exist_ok=True)

    def stage(self, content: bytes) -> str:
        self._count += 1
        staged = f"{self._user}-{self._count}"
        with _told():
            self._files.pipe_file(self._path(STAGED, staged), content)
        return staged

    def place(self, staged: str, name: str) -> None:
        with _told():
            self._files.makedirs(self._path(OBJECTS, name[:2]), exist_ok=True)
            self._files.mv(self._path(STAGED, staged), self._named(name))

    def discard(self, staged: str) -> None:
        self._delete(self._path(STAGED, staged))

    def size(self, name: str) -> int:
        with _told():
            found = self._files.info(self._named(name))
        size = found.get("size")
        if found.get("type") != "file" or not isinstance(size, int):
            raise Damaged("in its place is no plain file")
        return size

    def read(self, name: str, bytes_max: int) -> bytearray:
        size = self.size(name)
        if size > bytes_max:
            raise Damaged(f"its file has {size:,} bytes; it may have {bytes_max:,}")
        with _told(), self._files.open(self._named(name), "rb") as file:
            content = bytearray(file.read(size + 1))
        if len(content) != size:
            raise Damaged("its file changed while it was read")
        return content

    def chunks(self, name: str) -> Iterator[bytes]:
        self.size(name)
        with _told(), self._files.open(self._named(name), "rb") as file:
            while chunk := bytes(file.read(CHUNK_BYTES)):
                yield chunk

    def names(self) -> list[str]:
        with _told():
            self._files.invalidate_cache()
            paths = [PurePosixPath(path) for path in self._files.find(self._path(OBJECTS))]
        return sorted(one.name for one in paths if is_ref(one.name) and one.parent.name == one.name[:2])

    def remove(self, name: str) -> None:
        self._delete(self._named(name))

    def set_aside(self, name: str, aside: str) -> int:
        with _told():
            if not self._files.exists(self._named(name)):
                return 0
            size = self._files.info(self._named(name)).get("size")
            self._files.mv(self._named(name), self._path(QUARANTINE, aside), recursive=True)
        return size if isinstance(size, int) else 0

    def drop_aside(self, aside: str) -> None:
        self._delete(self._path(QUARANTINE, aside))

    def sweep(self, alive: Callable[[str], bool]) -> int:
        with _told():
            self._files.invalidate_cache()
            paths = [PurePosixPath(path) for path in self._files.find(self._path(STAGED))]
        left = [path for path in paths if not alive(path.name.partition("-")[0])]
        for path in left:
            self._delete(str(path))
        return len(left)

    def close(self) -> None:
        """Nothing is held open."""

    def _delete(self, path: str) -> None:
        with _told():
            if self._files.exists(path):
                self._files.rm(path, recursive=True)

    def _named(self, name: str) -> str:
        return self._path(OBJECTS, name[:2], name)

    def _path(self, *parts: str) -> str:
        return "/".join((self._base, *map(lone, parts)))


@contextmanager
def _told() -> Iterator[None]:
    """The other side's errors as ours."""
    try:
        yield
    except FileNotFoundError:
        raise Damaged("its file is missing") from None
    except OSError as error:
        raise Unavailable(f"the store can't be used: {error}") from error
