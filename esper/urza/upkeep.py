"""Keeping a store in order: after a crash, after damage, and when it is full."""

import os
from pathlib import Path
from typing import NamedTuple

from esper.urza.errors import Damaged, Unavailable
from esper.urza.ledger import Ledger, LedgerDamaged, set_aside
from esper.urza.names import ArtifactRef, is_ref, parts
from esper.urza.objects import Objects
from esper.urza.opening import survey
from esper.urza.presence import Presence
from esper.urza.records import Records
from esper.urza.seal import KEY_FILE, Seal

QUARANTINE_FILES_MAX = 32
QUARANTINE_BYTES_MAX = 8 << 20
"""Damaged files that are kept for whoever wants to look; the oldest leave first."""


class Collected(NamedTuple):
    """What was removed, and what is left."""

    removed: int
    freed_bytes: int
    bytes: int
    released: int
    """Users of the store that were gone, whose holds were let go."""


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
    """Clear up after processes that are gone, and take in files without a row; how many were taken in."""
    release_the_gone(records, presence)
    objects.sweep(presence.alive)
    strays = [ref for ref in objects.names() if records.artifact(ref) is None]
    seal = Seal.of(folder, make=False) if strays and (folder / KEY_FILE).exists() else None
    return sum(_taken_in(records, objects, ref, seal) for ref in strays)


def put_away(records: Records, objects: Objects, ref: str, reason: str) -> None:
    """Strike an artifact out and move its file to quarantine; within a transaction."""
    records.remove(ref)
    if not is_ref(ref):
        return
    aside = f"{os.urandom(8).hex()}-{ref}"
    size = objects.set_aside(ref, aside)
    records.quarantine(aside, ref, reason, size)
    kept_bytes = 0
    for number, (old, _, _, old_bytes) in enumerate(records.quarantined()):
        kept_bytes += old_bytes
        if number >= QUARANTINE_FILES_MAX or kept_bytes > QUARANTINE_BYTES_MAX:
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
    removed: list[tuple[str, int]] = []
    with records.ledger.transaction():
        over = records.bytes() - limit_bytes
        for ref, size in records.idle():
            if over <= 0:
                break
            if ref != keeping:
                records.remove(ref)
                removed.append((ref, size))
                over -= size
    with records.ledger.transaction():
        for ref, _ in removed:
            if is_ref(ref) and records.artifact(ref) is None:
                objects.remove(ref)
    return Collected(len(removed), sum(size for _, size in removed), records.bytes(), released)


def release_the_gone(records: Records, presence: Presence) -> int:
    """Let go what is held by users who are gone; how many there were."""
    gone = [user for user in {*presence.others(), *records.users()} if not presence.alive(user)]
    holding = [user for user in gone if user in records.users()]
    if holding:
        with records.ledger.transaction():
            for user in holding:
                records.release(user)
    for user in gone:
        presence.forget(user)
    return len(holding)


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
