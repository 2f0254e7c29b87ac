"""What was at work when a run's training thread stood still for good: noted in its folder, for who goes on.

What hung once would hang again: its numbers are the same. So a run that is taken up again does without the
seeds that were undecided then, and does not grow their blueprints any more. Which of several it was can't be
told, nor whether it was any of them: all are taken out, and the report says so. Who knows better removes the
note before the run is taken up.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from contracts.growth import ProbePlan
from esper.folder import write_whole
from esper.moment import Moment
from esper.tolaria.results import Suspect

FILE = "stalled.json"


class Stalled(msgspec.Struct, frozen=True):
    """The training thread takes no step any more."""

    text: str
    epoch: int
    """The newest that had ended."""
    suspects: tuple[Suspect, ...]

    @property
    def reasons(self) -> dict[str, str]:
        """Why, by the blueprints that are not to be grown any more."""
        reason = f"{self.text} with it at work, after epoch {self.epoch}"
        return {one.blueprint_id: reason for one in self.suspects}


def note(folder: Path, stalled: Stalled) -> None:
    """Leave word in a run's folder, beside what was noted there before and not followed for good; a disk that
    takes nothing is no reason to stop."""
    before = noted(folder)
    if before is not None:
        suspects = dict.fromkeys((*before.suspects, *stalled.suspects))
        stalled = msgspec.structs.replace(stalled, suspects=tuple(suspects))
    with suppress(OSError):
        write_whole(folder / FILE, msgspec.json.encode(stalled))


def noted(folder: Path) -> Stalled | None:
    """What was noted; None if nothing was, or what is there can't be read."""
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Stalled)
    return None


def forget(folder: Path) -> None:
    """The note has been followed for good."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def without(moment: Moment, stalled: Stalled) -> Moment:
    """The moment with the suspects marked as unsound, so that its boundary takes them out; and with no race
    under way that one of them takes part in."""
    seeds = {seed_id: seed.copy() for seed_id, seed in moment.snapshot.seeds.items()}
    for seed_id in _still_there(moment, stalled):
        seeds[seed_id].measured(finite=False)
    memories = moment.memories
    if memories.probe is not None and not stalled.reasons.keys().isdisjoint(_raced(memories.probe)):
        memories = msgspec.structs.replace(memories, probe=None)
    return replace(moment, snapshot=replace(moment.snapshot, seeds=seeds), memories=memories)


def told(moment: Moment, stalled: Stalled) -> tuple[str, ...]:
    """What the report says of it."""
    if not stalled.suspects:
        return (f"{stalled.text}, with no undecided seed at work: it may stand still there again",)
    there = set(_still_there(moment, stalled))
    lines = (
        f"{stalled.text}: {_fate(one, one.seed_id in there)} not grown any more" for one in stalled.suspects
    )
    return tuple(dict.fromkeys(lines))


def _fate(suspect: Suspect, is_there: bool) -> str:
    if not suspect.seed_id:
        return f"{suspect.blueprint_id}, which was raced then, is"
    out = "is taken out" if is_there else "was at work"
    return f"{suspect.seed_id} {out}, and its blueprint {suspect.blueprint_id} is"


def _still_there(moment: Moment, stalled: Stalled) -> Iterator[str]:
    for one in stalled.suspects:
        seed = moment.snapshot.seeds.get(one.seed_id)
        if seed is not None and seed.open and seed.record.blueprint_id == one.blueprint_id:
            yield one.seed_id


def _raced(plan: ProbePlan) -> Iterator[str]:
    for contender in plan.contenders:
        yield from (graft.blueprint_id for graft in contender.grafts)
