"""How much memory this process has, and how much it could have: read from the kernel's files."""

import os
from collections.abc import Iterator
from pathlib import Path

from esper.cgroups import groups, text_of

SHARE = 0.9
"""Of what the machine or its control group has, what a process may take if nothing else is said."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED = 1 << 60


def resident_bytes(statm: str) -> int:
    """Resident memory by the text of `/proc/self/statm`."""
    return int(statm.split()[1]) * PAGE_BYTES


def available_bytes(root: Path = Path("/")) -> int:
    """The machine's memory, or the least that a control group of this process allows; 0 if unknown."""
    limits = [limit for limit in (_machine(root), *_groups(root)) if limit is not None]
    return min(limits, default=0)


def _machine(root: Path) -> int | None:
    """`MemTotal` of proc(5), which is in KiB."""
    for line in text_of(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    return None


def _groups(root: Path) -> Iterator[int | None]:
    """Limits of the group and of those above it, in version 2 and version 1 of cgroups(7)."""
    for version, folder in groups(root, "memory"):
        yield _limit(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))


def _limit(file: Path) -> int | None:
    text = text_of(file).strip()
    limit = int(text) if text.isdecimal() else _UNLIMITED
    return limit if limit < _UNLIMITED else None
