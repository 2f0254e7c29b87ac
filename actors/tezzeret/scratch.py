"""Folders for the files of processes: each is locked by its owner, and one that nobody locks is left over.

The system lets go a lock when its owner ends, however that is.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Scratch:
    """A new folder in `parent`, which is made if need be.

    Raises:
        OSError: there is no place for it.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _one_at_a_time(parent):
            self.path = Path(tempfile.mkdtemp(dir=parent))
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._handle, fcntl.LOCK_EX)

    def remove(self) -> None:
        """With all that is in it; once."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._handle)


def tidy(parent: Path) -> None:
    """Remove the folders of those that are gone; what can't be removed stays."""
    with suppress(OSError), _one_at_a_time(parent):
        for folder in parent.iterdir():
            if _is_nobodys(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _one_at_a_time(parent: Path) -> Iterator[None]:
    """So that nobody finds a folder that is made and not yet locked."""
    handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_nobodys(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
