"""The control groups that this process is in: where the kernel's files say what they may take."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Group(NamedTuple):
    """One group of cgroups(7)."""

    version: int
    folder: Path
    """Where its files are, if it is visible here."""


def groups(root: Path, controller: str) -> Iterator[Group]:
    """The groups that limit what `controller` rules, from this process's own up to the topmost."""
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(2, root / "sys/fs/cgroup", path)
        elif controller in controllers.split(","):
            for name in dict.fromkeys(
                (controller, controllers)
            ):  # the first is as a rule a link to the second
                yield from _upwards(1, root / "sys/fs/cgroup" / name, path)


def text_of(file: Path) -> str:
    """What the kernel says there; empty if there is no such file."""
    try:
        return file.read_text()
    except OSError:
        return ""


def _upwards(version: int, top: Path, path: str) -> Iterator[Group]:
    here = top / path.lstrip("/")
    # In a container the path may be that outside of it: then its own group is at the top.
    for folder in (here, *here.parents):
        yield Group(version, folder)
        if folder == top:
            break
