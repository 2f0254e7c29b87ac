"""Artifact files in a local folder: written durably, read without following anything out of it.

A file is staged (written, fsync), renamed to its name, and its folder is fsynced; whoever loses power in
between finds the old state or the new one. Folders are held open and names are looked up in them, so
that a link in the middle of a path leads nowhere.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from esper.urza.errors import Damaged, Unavailable
from esper.urza.names import is_ref
from esper.urza.objects import CHUNK_BYTES, OBJECTS, QUARANTINE, STAGED, lone

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_FILE = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO}


class LocalObjects:
    """See `esper.urza.objects.Objects`."""

    def __init__(self, root: Path, user: str) -> None:
        self._user = user
        self._count = 0
        with _told():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with ExitStack() as undo:
            undo.callback(os.close, self._root)
            opened = [self._subfolder(root, name, undo) for name in (OBJECTS, STAGED, QUARANTINE)]
            undo.pop_all()
        self._objects, self._staged, self._aside = opened

    def stage(self, content: bytes) -> str:
        self._count += 1
        staged = f"{self._user}-{self._count}"
        with _told():
            handle = os.open(staged, _WRITE, 0o600, dir_fd=self._staged)
            try:
                _write(handle, content)
                os.fsync(handle)
            except BaseException:
                os.unlink(staged, dir_fd=self._staged)
                raise
            finally:
                os.close(handle)
        return staged

    def place(self, staged: str, name: str) -> None:
        with _told():
            lone(name)
            try:
                shelf = _opened(self._objects, name[:2], make=True)
            except OSError as error:
                if error.errno not in _NOT_A_FILE:
                    raise
                self._clear(self._objects, name[:2], staged)
                shelf = _opened(self._objects, name[:2], make=True)
            try:
                if _is_folder(shelf, name):
                    self._clear(shelf, name, staged)
                os.rename(staged, name, src_dir_fd=self._staged, dst_dir_fd=shelf)
                os.fsync(shelf)
            finally:
                os.close(shelf)

    def discard(self, staged: str) -> None:
        with _told(), _unless_missing():
            os.unlink(lone(staged), dir_fd=self._staged)

    def size(self, name: str) -> int:
        with _told(), self._reading(name) as handle:
            return os.fstat(handle).st_size

    def read(self, name: str, bytes_max: int) -> bytearray:
        with _told(), self._reading(name) as handle:
            size = os.fstat(handle).st_size
            if size > bytes_max:
                raise Damaged(f"its file has {size:,} bytes; it may have {bytes_max:,}")
            content = bytearray(size)
            view, at = memoryview(content), 0
            while at < size and (count := os.readv(handle, [view[at:]])):
                at += count
            if at < size:
                raise Damaged("its file became shorter while it was read")
            return content

    def chunks(self, name: str) -> Iterator[bytes]:
        with _told(), self._reading(name) as handle:
            while chunk := os.read(handle, CHUNK_BYTES):
                yield chunk

    def names(self) -> list[str]:
        with _told():
            return sorted(name for shelf in os.listdir(self._objects) for name in self._on(shelf))

    def remove(self, name: str) -> None:
        with _told(), _unless_missing(), self._shelf(name) as shelf:
            os.unlink(name, dir_fd=shelf)

    def set_aside(self, name: str, aside: str) -> int:
        size = 0
        with _told(), _unless_missing(), self._shelf(name) as shelf:
            size = os.stat(name, dir_fd=shelf, follow_symlinks=False).st_size
            self._move_aside(shelf, name, aside)
        return size

    def drop_aside(self, aside: str) -> None:
        with _told(), _unless_missing():
            if _is_folder(self._aside, lone(aside)):
                shutil.rmtree(aside, dir_fd=self._aside)
            else:
                os.unlink(aside, dir_fd=self._aside)

    def sweep(self, alive: Callable[[str], bool]) -> int:
        with _told():
            left = [name for name in os.listdir(self._staged) if not alive(name.partition("-")[0])]
            for name in left:
                with _unless_missing():
                    os.unlink(name, dir_fd=self._staged)
        return len(left)

    def close(self) -> None:
        for handle in (self._root, self._objects, self._staged, self._aside):
            os.close(handle)

    def _subfolder(self, root: Path, name: str, undo: ExitStack) -> int:
        try:
            handle = _opened(self._root, name, make=True)
        except OSError as error:
            raise Unavailable(f"{root / name} can't be used as a folder: {error.strerror}") from None
        undo.callback(os.close, handle)
        return handle

    def _clear(self, folder: int, name: str, staged: str) -> None:
        """Remove what is in the way of a file, whatever it is; what a link leads to stays."""
        self._move_aside(folder, name, f"{staged}-in-the-way")
        self.drop_aside(f"{staged}-in-the-way")

    def _move_aside(self, folder: int, name: str, aside: str) -> None:
        os.rename(lone(name), lone(aside), src_dir_fd=folder, dst_dir_fd=self._aside)

    def _on(self, shelf: str) -> list[str]:
        try:
            handle = _opened(self._objects, shelf, make=False)
        except OSError:
            return []  # not one of ours: a file, or a link
        try:
            return [name for name in os.listdir(handle) if is_ref(name) and name[:2] == shelf]
        finally:
            os.close(handle)

    @contextmanager
    def _shelf(self, name: str) -> Iterator[int]:
        handle = _opened(self._objects, lone(name)[:2], make=False)
        try:
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _reading(self, name: str) -> Iterator[int]:
        """The file, open; what it is was looked at before, since opening a device can do things."""
        with self._shelf(name) as shelf:
            _check_plain(os.stat(name, dir_fd=shelf, follow_symlinks=False))
            handle = os.open(name, _READ, dir_fd=shelf)
        try:
            _check_plain(os.fstat(handle))
            yield handle
        finally:
            os.close(handle)


def _check_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Damaged("in its place is no plain file")


def _opened(folder: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        pass  # another process was quicker
    else:
        os.fsync(folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def _is_folder(folder: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _write(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


@contextmanager
def _unless_missing() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if error.errno not in _NOT_A_FILE:
            raise


@contextmanager
def _told() -> Iterator[None]:
    """The system's errors as ours."""
    try:
        yield
    except FileNotFoundError:
        raise Damaged("its file is missing") from None
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise Damaged("in its place is no plain file") from None
        raise Unavailable(f"the store can't be used: {error.strerror}") from error
