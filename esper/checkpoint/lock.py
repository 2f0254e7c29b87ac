"""One process at a time on a run's folder: a lock that the kernel lets go of when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from esper.checkpoint.errors import CheckpointError

FILE: Final = "run.lock"
ATTEMPTS_MAX: Final = 100
"""How often the file may be taken away between opening and locking it."""
_PID_BYTES_MAX: Final = 20
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_held: Final[set[int]] = set()
"""Open locks of this process."""


class FolderTaken(CheckpointError):
    """Another process works on the folder."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        who = "another process" if pid is None else "this process" if pid == os.getpid() else f"process {pid}"
        super().__init__(
            f"{folder} is in use by {who}; one process at a time works on a run's folder: "
            "wait for it to end, or give another folder"
        )
        self.pid = pid


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Be the only process that works on a run's folder, until the block or the process ends.

    A process number that is left in the file means nothing; only the lock does. A forked child does not
    hold it.

    Raises:
        FolderTaken: another process, or this one elsewhere, holds it.
        CheckpointError: the folder can't be written, or files can't be locked there.
    """
    try:
        handle = _locked(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} can't be worked on: {FILE}: {error.strerror}") from error
    _held.add(handle)
    owner = os.getpid()
    try:
        yield
    finally:
        # Closed, not unlocked: unlocking in a child would let go of its parent's lock.
        if os.getpid() == owner:
            _held.discard(handle)
            os.close(handle)


def _locked(folder: Path) -> int:
    """The open file, locked, with this process's number in it."""
    file = folder / FILE
    for _ in range(ATTEMPTS_MAX):
        handle = os.open(file, _OPEN, 0o666)
        try:
            _lock(handle, folder)
            if _is(handle, file):
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise CheckpointError(f"{folder} can't be worked on: {FILE} is taken away again and again")


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.pread(handle, _PID_BYTES_MAX, 0).strip()
        raise FolderTaken(folder, int(told) if told.isdigit() else None) from None


def _is(handle: int, file: Path) -> bool:
    """Whether the name still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(file))
    except FileNotFoundError:
        return False


def _forget() -> None:
    """In a forked child: close what would keep the lock when the parent has died."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
