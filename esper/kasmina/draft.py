"""What a planner hands back: the changes it wants and the verdicts on the way, or a refusal."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from contracts.growth import GateVerdict, SeedRecord
from contracts.lifecycle import IllegalTransition, Stage, Transition, transition
from esper.kasmina.plan import Change, Setting

Records: TypeAlias = Mapping[str, SeedRecord]
"""Every record by seed id."""


class Refused(Exception):
    """A command that is not carried out; the message is what the sender is told.

    `changes` is what follows from the refusal itself: nothing, but for a drill's seed.
    """

    def __init__(
        self, reason: str, gates: tuple[GateVerdict, ...] = (), changes: tuple[Change, ...] = ()
    ) -> None:
        super().__init__(reason)
        self.gates = gates
        self.changes = changes


class Draft(msgspec.Struct, frozen=True):
    """Changes in order, with the gates that were judged for them, and a breaker that is to be set."""

    changes: tuple[Change, ...] = ()
    gates: tuple[GateVerdict, ...] = ()
    setting: Setting | None = None

    def __add__(self, other: "Draft") -> "Draft":
        return Draft(self.changes + other.changes, self.gates + other.gates, other.setting or self.setting)


def slot(site: str, number: int) -> SeedRecord:
    """A dormant place for the site's seed number `number`."""
    return SeedRecord(seed_id=f"{site}#{number}", site=site, stage=Stage.DORMANT)


def number(record: SeedRecord) -> int:
    """Which seed of its site it is, from 0."""
    return int(record.seed_id.rpartition("#")[2])


def next_slot(record: SeedRecord) -> SeedRecord:
    """The dormant slot that follows `record`'s seed at its site."""
    return slot(record.site, number(record) + 1)


def legal(record: SeedRecord, target: Stage) -> Transition:
    """The table's step from where the seed is.

    Raises:
        Refused: there is none; the message names the seed, its stage and what would be legal.
    """
    try:
        return transition(record.stage, target)
    except IllegalTransition as error:
        raise Refused(f"{record.seed_id}: {error}") from error


def after(records: Records, changes: Iterable[Change]) -> dict[str, SeedRecord]:
    """The records once `changes` are made: a site's new slot takes the place of its dormant predecessor."""
    result = dict(records)
    for change in changes:
        new = change.record
        if new.seed_id not in result:
            spent = [
                old.seed_id for old in result.values() if old.site == new.site and old.stage is Stage.DORMANT
            ]
            for seed_id in spent:
                del result[seed_id]
        result[new.seed_id] = new
    return result
