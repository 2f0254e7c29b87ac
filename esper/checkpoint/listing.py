"""What the names in a folder of checkpoints mean: which are complete, leftovers, or too many.

Only the numbers in names say what is newer: no clock does.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

FOLDER: Final = "checkpoints"
"""In a run's folder."""
NUMBER_MAX: Final = 10**12 - 1
_OURS: Final = re.compile(r"(\.?)([0-9]{8,12})\.(json|safetensors)(\.new)?", re.ASCII)


class Listing(NamedTuple):
    """A folder's names, sorted out; names that are not ours are not in it."""

    numbers: tuple[int, ...]
    """Of every manifest, the oldest first."""
    leftovers: tuple[str, ...]
    """What a save that did not finish, or a removal, has left: files that nothing speaks of."""
    next: int
    """A number above that of every file."""


def manifest_name(number: int) -> str:
    return f"{number:08d}.json"


def tensors_name(number: int) -> str:
    return f"{number:08d}.safetensors"


def beside(name: str) -> str:
    """The name under which a file is written."""
    return f".{name}.new"


def listing_of(names: Iterable[str]) -> Listing:
    """Sort out a folder's names."""
    found = [(name, *parsed) for name in sorted(names) if (parsed := _parsed(name)) is not None]
    manifests = {number for _, number, kind in found if kind == "json"}
    leftovers = [
        name for name, number, kind in found if kind == "new" or (kind != "json" and number not in manifests)
    ]
    newest = max((number for _, number, _ in found), default=0)
    return Listing(tuple(sorted(manifests)), tuple(leftovers), newest + 1)


def superseded(numbers: Collection[int], sound: Collection[int], keep: int) -> tuple[int, ...]:
    """Those to be removed, the oldest first: all that are older than the `keep` newest sound ones."""
    kept = sorted(sound)[-keep:]
    return tuple(sorted(number for number in numbers if len(kept) == keep and number < kept[0]))


def _parsed(name: str) -> tuple[int, str] | None:
    """Number and kind (`json`, `safetensors`, or `new` for what is being written) of a name of ours."""
    match = _OURS.fullmatch(name)
    if match is None:
        return None
    dot, digits, kind, new = match.groups()
    number = int(digits)
    if bool(dot) != bool(new) or digits != f"{number:08d}":
        return None
    return number, "new" if new else kind
