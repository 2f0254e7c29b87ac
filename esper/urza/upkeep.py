"""Keeping a store in order: after a crash, after damage, and when it is full."""

from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from esper.urza.container import ARTIFACT_BYTES_MAX
from esper.urza.errors import Damaged, Unavailable
from esper.urza.ledger import Ledger, LedgerDamaged, set_aside
from esper.urza.names import ArtifactRef, aside_of, is_aside, is_ref, parts
from esper.urza.objects import Objects
from esper.urza.opening import survey
from esper.urza.presence import Presence
from esper.urza.records import Records
from esper.urza.seal import KEY_FILE, Seal

TAKEN_IN_MAX = 4_096
TAKEN_IN_BYTES_MAX = 128 << 20
"""Files without a row, and their bytes, that are looked into at one opening."""
QUARANTINE_FILES_MAX = 32
QUARANTINE_BYTES_MAX = 8 << 20
"""Damaged files that are kept for whoever wants to look; the oldest leave first."""
LEFT_WANTED_MAX = 256
"""Wanted kernels that stay listed for the next run when all who wanted them are gone."""


class Collected(NamedTuple):
    """What was removed, and what is left."""

    removed: int
    freed_bytes: int
    bytes: int
    released: int
    """Users of the store that were gone, whose holds and wants were struck out."""


def open_ledger(path: Path) -> tuple[Ledger, str]:
    """The catalogue, and why it is a new one; empty if it is not.

    Raises:
        Unavailable: it can't be used now, and neither can a new one.
    """
    try:
        return Ledger(path), ""
    except LedgerDamaged as error:
        reason = str(error)
    try:
        aside = set_aside(path)
        return Ledger(path), f"{path.name} was damaged ({reason}); it is now {aside.name}"
    except (LedgerDamaged, OSError) as error:
        raise Unavailable(f"{path} is damaged, and can't be made anew: {error}") from None


def put_in_order(records: Records, objects: Objects, presence: Presence, folder: Path) -> int:
    """Clear up after processes that are gone, and take in files without a row; how many were taken in.

    Of files without a row the smallest come first, and what is too much for now waits for the next opening:
    others can't open the store meanwhile.
    """
    release_the_gone(records, presence)
    if records.count("work") > LEFT_WANTED_MAX:
        records.trim_work(LEFT_WANTED_MAX)
    objects.sweep(presence.alive)
    strays = _affordable(objects, [ref for ref in objects.names() if records.artifact(ref) is None])
    seal = Seal.of(folder, make=False) if strays and (folder / KEY_FILE).exists() else None
    return sum(_taken_in(records, objects, ref, seal) for ref in strays)


def put_away(records: Records, objects: Objects, ref: str, reason: str) -> None:
    """Strike an artifact out and move its file to quarantine; within a transaction."""
    records.remove(ref)
    if not is_ref(ref):
        return
    aside = aside_of(ref)
    size = objects.set_aside(ref, aside)
    records.quarantine(aside, ref, reason, size)
    kept_bytes = 0
    for number, (old, _, _, old_bytes) in enumerate(records.quarantined()):
        kept_bytes += old_bytes
        if number >= QUARANTINE_FILES_MAX or kept_bytes > QUARANTINE_BYTES_MAX:
            if is_aside(old):  # the row may be anybody's
                objects.drop_aside(old)
            records.forget_aside(old)


def collect(
    records: Records, objects: Objects, presence: Presence, limit_bytes: int, keeping: str = ""
) -> Collected:
    """Remove what was used least recently and nobody holds, until at most `limit_bytes` are left.

    Rows go first, and files only while no other process can be publishing them again; a crash in between
    leaves files without rows, which are taken in again.
    """
    released = release_the_gone(records, presence)
    with records.ledger.transaction():
        removed = surplus(records, limit_bytes, keeping)
        for ref, _ in removed:
            records.remove(ref)
    with records.ledger.transaction():
        for ref, _ in removed:
            if is_ref(ref) and records.artifact(ref) is None:
                objects.remove(ref)
    return Collected(len(removed), sum(size for _, size in removed), records.bytes(), released)


def surplus(records: Records, limit_bytes: int, keeping: str = "") -> list[tuple[str, int]]:
    """Names and sizes of what has to leave for that; what users who are gone hold stays."""
    found: list[tuple[str, int]] = []
    over = records.bytes() - limit_bytes
    for ref, size in records.idle():
        if over <= 0:
            break
        if ref != keeping:
            found.append((ref, size))
            over -= size
    return found


def release_the_gone(records: Records, presence: Presence) -> int:
    """Strike out what users who are gone held and wanted; how many there were. Their work stays listed."""
    entered = set(records.users())
    gone = {user for user in {*presence.others(), *entered} if not presence.alive(user)}
    if gone & entered:
        with records.ledger.transaction():
            for user in gone & entered:
                records.leave(user)
    for user in gone:
        presence.forget(user)
    return len(gone & entered)


def _affordable(objects: Objects, refs: list[str]) -> list[str]:
    """Those that can be looked into now, the smallest first; one at least."""
    costs = sorted((_size(objects, ref), ref) for ref in refs)
    totals = accumulate(size for size, _ in costs)
    count = sum(total <= TAKEN_IN_BYTES_MAX for total in totals)
    return [ref for _, ref in costs[: min(max(1, count), TAKEN_IN_MAX)]]


def _size(objects: Objects, ref: str) -> int:
    """Bytes that are read to judge a file: none if it is none, or larger than an artifact is."""
    try:
        size = objects.size(ref)
    except Damaged:
        return 0
    return size if size <= ARTIFACT_BYTES_MAX else 0


def _taken_in(records: Records, objects: Objects, ref: str, seal: Seal | None) -> bool:
    """Enter a file that has no row, if it is sound; else put it away."""
    with records.ledger.transaction():
        if records.artifact(ref) is not None:
            return False  # another process has just published it
        try:
            header = survey(objects, ref, seal)
            size = objects.size(ref)
        except Damaged as error:
            put_away(records, objects, ref, f"left without an entry: {error.reason}")
            return False
        checksum, kind = parts(ref)
        records.add(ArtifactRef(ref, checksum, size), kind, header.spec, header.certificate, used=False)
        records.certify(header.spec.design, header.certificate)
        records.made(header.spec)
    return True
