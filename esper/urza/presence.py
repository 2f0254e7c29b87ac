"""Which users of a store live: each holds a lock on a file of its own, which ends with its process.

A lock needs no process numbers, which are used again and mean nothing to another container, and no clock.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esper.urza.errors import Unavailable

FOLDER = "users"
OPENING = "opening.lock"
WAIT_S = 30.0
"""Longest wait for another process that is opening the same store."""
_POLL_S = 0.01
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Presence:
    """This user's own lock, held until `close` or the process's end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.user, self._handle = self._enter()

    def alive(self, user: str) -> bool:
        """Whether a user of the store, given by id, is still there; what can't be told counts as alive."""
        if user == self.user:
            return True
        if not user.isalnum():
            return False
        try:
            handle = os.open(self._folder / user, _OLD)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            return not _locked(handle)
        finally:
            os.close(handle)

    def others(self) -> list[str]:
        """Ids of all other users whose files are there, dead or alive."""
        return sorted(name for name in os.listdir(self._folder) if name.isalnum() and name != self.user)

    def forget(self, user: str) -> None:
        """Remove a dead user's file."""
        with suppress(OSError):
            (self._folder / user).unlink()

    def close(self) -> None:
        """Leave; more than once does no harm."""
        if self._handle >= 0:
            self.forget(self.user)
            os.close(self._handle)
            self._handle = -1

    def _enter(self) -> tuple[str, int]:
        while True:
            user = os.urandom(16).hex()
            handle = os.open(self._folder / user, _NEW, 0o600)
            # Another may have taken it for a dead user's between the two calls, and removed it.
            if _locked(handle) and os.fstat(handle).st_nlink:
                return user, handle
            os.close(handle)


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """Be the only one who opens the store of this folder.

    Raises:
        Unavailable: another has been at it for 30 s.
    """
    handle = os.open(folder / OPENING, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(int(WAIT_S / _POLL_S)):
            if _locked(handle):
                break
            time.sleep(_POLL_S)
        else:
            raise Unavailable(f"another process has been opening {folder} for {WAIT_S:.0f} s")
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
