"""`python -m esper.run kernels`: what the kernel store holds, words on it, and making room in it."""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec

from contracts.config import Config, KernelConfig
from esper.errors import BadSetup
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.source import absolute, with_own
from esper.report.holdings import megabytes, short, text, totals
from esper.report.words import counted
from esper.urza.errors import UrzaError
from esper.urza.holdings import Holding
from esper.urza.library import Library
from esper.urza.objects import are_there
from esper.urza.presence import is_store
from esper.workloads.cache import cache_folder

MIB = 1 << 20


class Shown(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    store: str
    bytes: int
    limit_bytes: int
    quarantined: int
    """Files that were damaged and are kept for whoever wants to look."""
    holdings: list[Holding]


def kernel_store(config: KernelConfig) -> Path:
    """The folder of the kernel store.

    Raises:
        BadSetup: it is in a home that nobody has.
    """
    try:
        return Path(config.store).expanduser() if config.store else cache_folder() / "kernels"
    except RuntimeError as error:
        raise BadSetup(f"kernels.store {config.store}: {error} Give another folder") from None


def open_library(config: KernelConfig, folder: Path, catalogue: Catalogue) -> Library:
    """The store in `folder`, as configured.

    Raises:
        Unavailable: it can't be used.
    """
    return Library(
        folder, objects=config.objects or None, limit_bytes=config.store_mb * MIB, catalogue=catalogue
    )


def look_after(config: Config, arguments: argparse.Namespace) -> None:
    """Do to the configured store what was ordered, and print what came of it.

    Raises:
        BadSetup: there is no store, or the order can't be carried out; the message says why. Nothing was
            made.
    """
    folder = kernel_store(config.kernels)
    order, least, most = ORDERS[arguments.order]
    _check_options(arguments)
    if not least <= len(arguments.words) <= most:
        raise BadSetup(f"kernels {arguments.order} takes {_WORDS[arguments.order]}")
    try:
        if not is_store(folder):
            raise BadSetup(f"there is no kernel store in {folder}; a run that compiles kernels makes one")
        address = config.kernels.objects
        if address and not are_there(address):
            raise BadSetup(f"no kernels lie at {address}; a run that compiles kernels puts them there")
        catalogue = with_own(CATALOGUE, map(absolute, config.growth.blueprints))
        with open_library(config.kernels, folder, catalogue) as library:
            if library.rebuilt:
                print(f"esper: {library.rebuilt}", file=sys.stderr)
            order(library, folder, arguments)
    except BrokenPipeError:  # whoever read it has seen enough
        with suppress(OSError):
            sys.stdout.close()
    except (UrzaError, ValueError, OSError) as error:
        raise BadSetup(str(error)) from None


def _check_options(arguments: argparse.Namespace) -> None:
    for given, option, order in (
        (arguments.json, "--json", "show"),
        (arguments.dry_run, "--dry-run", "collect"),
    ):
        if given and arguments.order != order:
            raise BadSetup(f"{option} goes with {order}, not with {arguments.order}")


def show(library: Library, folder: Path, arguments: argparse.Namespace) -> None:
    """Everything, or what has a word on it."""
    found = library.holdings()
    if arguments.words:
        named = {one.ref for one in library.tagged(arguments.words[0])}
        found = [one for one in found if one.ref in named]
    stats = library.stats()
    if arguments.json:
        shown = Shown(str(folder), stats.bytes, stats.limit_bytes, stats.quarantined, found)
        print(msgspec.json.format(msgspec.json.encode(shown)).decode())
    else:
        print(f"the store in {folder}, what was used last first")
        print("\n".join(text(found, stats)))


def tag(library: Library, folder: Path, arguments: argparse.Namespace) -> None:
    """Put words on one artifact."""
    beginning, *words = arguments.words
    named = library.named(beginning)
    library.tag(named.ref, *words)
    print(f"{short(named.ref)} is tagged {' '.join(words)}")


def untag(library: Library, folder: Path, arguments: argparse.Namespace) -> None:
    """Take words off one artifact."""
    beginning, *words = arguments.words
    named = library.named(beginning)
    library.untag(named.ref, *words)
    print(f"{short(named.ref)} is not tagged {' '.join(words)}")


def collect(library: Library, folder: Path, arguments: argparse.Namespace) -> None:
    """Make the store as small as its limit, or say what would leave for that."""
    if arguments.dry_run:
        leaving = library.surplus()
        for one in leaving:
            print(short(one.ref))
        size = megabytes(sum(one.size for one in leaving))
        print(f"{counted(len(leaving), 'artifact', 'artifacts')} would be removed, {size}")
    else:
        done = library.collect()
        size = megabytes(done.freed_bytes)
        print(f"{counted(done.removed, 'artifact', 'artifacts')} removed, {size}")
    print(totals(library.stats()))


def program(library: Library, folder: Path, arguments: argparse.Namespace) -> None:
    """Write what was compiled natively to a file, once its seal was checked."""
    beginning, name = arguments.words
    content = library.program(library.named(beginning).ref)
    with open(name, "xb") as file:
        file.write(content)
    print(f"{counted(len(content), 'byte', 'bytes')} in {name}")


_Order: TypeAlias = Callable[[Library, Path, argparse.Namespace], None]
_MANY = 16
ORDERS: dict[str, tuple[_Order, int, int]] = {
    "show": (show, 0, 1),
    "tag": (tag, 2, _MANY),
    "untag": (untag, 2, _MANY),
    "collect": (collect, 0, 0),
    "program": (program, 2, 2),
}
"""What each does, and how many words it takes at least and at most."""
_WORDS = {
    "show": "a tag, or nothing to show everything",
    "tag": "the beginning of a name, then the tags",
    "untag": "the beginning of a name, then the tags",
    "collect": "no words",
    "program": "the beginning of a name, then the file to write",
}
