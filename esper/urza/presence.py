"""Which users of a store live: each holds a lock on a file of its own, which ends with its process.

A lock needs no process numbers, which are used again and mean nothing to another container, and no clock.
"""

import fcntl
import os
import re
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
_USER = re.compile(r"[0-9a-f]{32}", re.ASCII)
"""What a user is called; no file of any other name is ever looked at or removed."""
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def is_store(folder: Path) -> bool:
    """Whether a folder is a store's: its users have a place there."""
    return (folder / FOLDER).is_dir() and (folder / OPENING).is_file()


class Presence:
    """This user's own lock, held until `close` or the process's end."""

    def __init__(self, folder: Path) -> None:
        (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._folder = os.open(folder / FOLDER, flags)
        try:
            self.user, self._handle = self._enter()
        except BaseException:
            os.close(self._folder)
            raise

    def alive(self, user: str) -> bool:
        """Whether a user of the store, given by id, is still there; what can't be told counts as alive."""
        if user == self.user:
            return True
        if not _is_user(user):
            return False
        try:
            handle = os.open(user, _OLD, dir_fd=self._folder)
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
        try:
            return sorted(name for name in os.listdir(self._folder) if _is_user(name) and name != self.user)
        except OSError as error:
            raise Unavailable(f"the store's users can't be listed: {error.strerror}") from None

    def forget(self, user: str) -> None:
        """Remove a dead user's file; what is called otherwise than a user is stays."""
        if _is_user(user):
            with suppress(OSError):
                os.unlink(user, dir_fd=self._folder)

    def close(self) -> None:
        """Leave; more than once does no harm."""
        if self._handle >= 0:
            self.forget(self.user)
            os.close(self._handle)
            os.close(self._folder)
            self._handle = -1

    def _enter(self) -> tuple[str, int]:
        while True:
            user = os.urandom(16).hex()
            handle = os.open(user, _NEW, 0o600, dir_fd=self._folder)
            # Another may have taken it for a dead user's between the two calls, and removed it.
            if _locked(handle) and os.fstat(handle).st_nlink:
                return user, handle
            os.close(handle)


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """Be the only one who opens the store of this folder.

    Raises:
        Unavailable: another has been at it for 30 s, or there can be no lock in this folder.
    """
    try:
        handle = os.open(folder / OPENING, _OLD | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"{folder / OPENING} can't be opened: {error.strerror}") from None
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


def _is_user(name: str) -> bool:
    return _USER.fullmatch(name) is not None


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Unavailable(f"files can't be locked here: {error.strerror}") from None
    return True
