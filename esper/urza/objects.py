"""Where artifact files lie: a folder by default, or any fsspec address.

objects/ab/ab12….kernel    what is published
staged/<user>-<n>          what is being written
quarantine/<n>-ab12…       what was found damaged
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from esper.urza.errors import Unavailable

CHUNK_BYTES = 1 << 20
OBJECTS, STAGED, QUARANTINE = "objects", "staged", "quarantine"


def lone(name: str) -> str:
    """The name, once it is that of one thing in one folder and leads nowhere else.

    Raises:
        ValueError: it is a path, or none at all; whoever asks has to check what it was told.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise ValueError(f"{name[:80]!r} is no name of one file")
    return name


class Objects(Protocol):
    """Files by name; names are those of `esper.urza.names`, checked before they come here, and
    refused (`ValueError`) where they lead out of their folder.

    Every method raises `Unavailable` when the place can't be reached or written.
    """

    def stage(self, content: bytes) -> str:
        """Write all of it durably, where nobody looks; the answer is for `place`."""

    def place(self, staged: str, name: str) -> None:
        """Show it under its name, all at once and durably; what lay there before is gone."""

    def discard(self, staged: str) -> None:
        """Forget what was staged."""

    def size(self, name: str) -> int:
        """Bytes of a file. Raises `Damaged`: missing, or no plain file."""

    def read(self, name: str, bytes_max: int) -> bytearray:
        """A file's bytes. Raises `Damaged`: missing, no plain file, or larger."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file's bytes, a chunk at a time. Raises `Damaged`: missing, or no plain file."""

    def names(self) -> list[str]:
        """Every file that is called as an artifact is, in order."""

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""

    def set_aside(self, name: str, aside: str) -> int:
        """Move a file, or whatever has its name, into quarantine; its bytes, 0 if nothing was there."""

    def drop_aside(self, aside: str) -> None:
        """Delete what is in quarantine under a name, if it is there."""

    def sweep(self, alive: Callable[[str], bool]) -> int:
        """Delete what users who are gone had staged; how many."""

    def close(self) -> None:
        """Give back what is held open."""


def are_there(address: str) -> bool:
    """Whether files of a store lie at an fsspec address; nothing is made there.

    Raises:
        Unavailable: there is no way to reach it.
    """
    from esper.urza.remote import resolved

    files, root = resolved(address)
    if files is None:
        return (Path(root) / OBJECTS).is_dir()
    try:
        return bool(files.exists(f"{root.rstrip('/')}/{OBJECTS}"))
    except OSError as error:
        raise Unavailable(f"{address!r} can't be looked at: {error}") from None


def objects_at(address: str | None, folder: Path, user: str) -> Objects:
    """The files at an fsspec address, or in `folder` itself where there is none.

    Raises:
        Unavailable: there is no such place, or no way to reach it.
    """
    from esper.urza.local import LocalObjects

    if address is None:
        return LocalObjects(folder, user)
    from esper.urza.remote import RemoteObjects, resolved

    files, root = resolved(address)
    if files is None:
        return LocalObjects(Path(root), user)
    return RemoteObjects(files, root, user)
