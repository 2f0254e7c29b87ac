"""The seal: HMAC-SHA256 with this store's own key, on what may be opened as code.

The key is 32 random bytes in `seal.key`, made when first needed, readable by its owner alone. Who can write
the objects and the catalogue but has not the key can't make a program that is given out.
"""

import hmac
import os
import stat
from pathlib import Path
from typing import NoReturn

from esper.urza.container import Bytes
from esper.urza.errors import Unavailable

KEY_FILE = "seal.key"
KEY_BYTES = 32
_PURPOSE = b"esper-urza-program-v1\n"


class Seal:
    """Makes and checks seals; the key itself is let go, and it can't be copied, pickled or shown."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise Unavailable(
                f"{KEY_FILE} does not hold {KEY_BYTES} bytes; remove it, and programs are made anew"
            )
        self._keyed = hmac.new(key, _PURPOSE, "sha256")

    @classmethod
    def of(cls, folder: Path, *, make: bool) -> "Seal":
        """The seal of the store in `folder`; with `make` a key is drawn if there is none.

        Raises:
            Unavailable: there is no key, or it can be read or changed by others than its owner.
        """
        path = folder / KEY_FILE
        if make and not path.is_symlink() and not path.exists():
            _make(path)
        return cls(_read(path))

    def begin(self) -> hmac.HMAC:
        """A seal to be made piece by piece; `digest` gives it."""
        return self._keyed.copy()

    def stamp(self, content: Bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(content)
        return keyed.digest()

    def matches(self, content: Bytes, stamp: Bytes) -> bool:
        """Whether `stamp` is the seal of `content`; takes as long whatever the difference."""
        return hmac.compare_digest(self.stamp(content), stamp)

    def __repr__(self) -> str:
        return "<Seal>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a seal stays in its process; every process reads the key itself")


def _make(path: Path) -> None:
    """Write a new key beside, then link it: of two that try at once, one key stays, and whole."""
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(beside, flags, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path, follow_symlinks=False)
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    except OSError as error:
        raise Unavailable(f"{KEY_FILE} can't be made: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            f"{KEY_FILE} can't be read: {error.strerror}; without it no program is opened"
        ) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        private = stat.S_ISREG(found.st_mode) and not found.st_mode & 0o077 and found.st_uid == os.geteuid()
        if not private:
            raise Unavailable(f"{KEY_FILE} is not its owner's alone (mode 0600); programs stay closed")
        return file.read(KEY_BYTES + 1)
