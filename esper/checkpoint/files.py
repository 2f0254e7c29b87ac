"""The file operations of which a save consists: one call each, so that each can be made to fail."""

import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NewFile(Protocol):
    """A file that is being written, from its beginning to its end."""

    def write(self, content: memoryview) -> int:
        """Append; how many of the bytes were taken, which may be fewer than there are."""

    def sync(self) -> None:
        """Make the content durable. After a failure nothing is known of it, whatever a second call says."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class Files(Protocol):
    """What is done to files and folders. All raise `OSError`; names are durable after `sync_folder`."""

    def make_folder(self, folder: Path) -> None:
        """Make one folder, if it is not there."""

    def names(self, folder: Path) -> list[str]:
        """What lies in a folder, in any order."""

    def size(self, file: Path) -> int:
        """Bytes of a plain file; what is no plain file is an error."""

    def read(self, file: Path, bytes_max: int, begin: int = 0) -> bytearray:
        """At most so many of the file's bytes, from byte `begin` on; what is no plain file is an error."""

    def create(self, file: Path) -> NewFile:
        """Make a new file; that it exists is an error."""

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its name, in place of whatever had it."""

    def remove(self, file: Path) -> None: ...

    def sync_folder(self, folder: Path) -> None:
        """Make the folder's names durable."""


class RealFiles:
    """The system's own; links are not followed at the end of a path."""

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        return os.listdir(folder)

    def size(self, file: Path) -> int:
        return _plain(os.lstat(file)).st_size

    def read(self, file: Path, bytes_max: int, begin: int = 0) -> bytearray:
        _plain(os.lstat(file))  # opening a device can do things
        handle = os.open(file, _READ)
        try:
            content = bytearray(max(0, min(bytes_max, _plain(os.fstat(handle)).st_size - begin)))
            at = 0
            with memoryview(content) as view:
                while at < len(content) and (count := os.preadv(handle, [view[at:]], begin + at)):
                    at += count
            del content[at:]
            return content
        finally:
            os.close(handle)

    def create(self, file: Path) -> NewFile:
        return _RealFile(os.open(file, _NEW, 0o666))

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def remove(self, file: Path) -> None:
        os.unlink(file)

    def sync_folder(self, folder: Path) -> None:
        handle = os.open(folder, _FOLDER)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _RealFile:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def write(self, content: memoryview) -> int:
        return os.write(self._handle, content)

    def sync(self) -> None:
        os.fsync(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)


REAL_FILES: Final = RealFiles()


def _plain(found: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")
    return found
