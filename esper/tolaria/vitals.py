"""The vital signs of a run, and the bounds that they have to keep: figures go in, troubles come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from contracts.emergency import Relief, Trigger, Trouble
from contracts.growth import SeedFigures
from esper.tolaria.watch import ForeignChange

MB = 1 << 20
RELIEF = 0.05
"""How far a figure has to be back within its bound, as a share of it, until that trouble is over."""


LASTING = 4
"""How many times as many slow boundaries running are no passing load: what else the machine does is not to
decide what grows."""


@dataclass
class BoundaryTimes:
    """Boundaries that take too long, several running.

    What counts is what a boundary takes beyond the copy of the run: that rests on the network's size alone,
    and to stop growing would not make it shorter.
    """

    budget_s: float
    most: int
    """Slow boundaries running that are a trouble."""
    running: int = 0

    def look(self, worked_s: float, epoch: int) -> Trouble | None:
        """A boundary took `worked_s` seconds beyond the copy."""
        self.running = self.running + 1 if worked_s > self.budget_s else 0
        if self.running < self.most:
            return None
        told = (
            f"{self.running} boundaries running took longer than {self.budget_s * 1e3:.0f} ms, "
            f"the last one {worked_s * 1e3:.1f} ms, the copy of the run not counted"
        )
        lasting = self.running >= LASTING * self.most
        return Trouble(Trigger.BOUNDARIES_SLOW if lasting else Trigger.BOUNDARY_SLOW, told, epoch)


@dataclass
class Isolations:
    """Seeds that touch the host while they are isolated."""

    most: int
    """How often a seed may; once more is a quarantine."""
    known: dict[str, int] = field(default_factory=dict)

    def look(self, figures: Mapping[str, SeedFigures], epoch: int) -> tuple[Trouble, ...]:
        """How often each seed has by now; a trouble for each that has again."""
        now = {seed_id: one.isolation_violations for seed_id, one in figures.items()}
        new = [seed_id for seed_id, count in now.items() if count > self.known.get(seed_id, 0)]
        self.known = now
        return tuple(self._trouble(seed_id, now[seed_id], epoch) for seed_id in new)

    def _trouble(self, seed_id: str, count: int, epoch: int) -> Trouble:
        trigger = Trigger.QUARANTINE if count > self.most else Trigger.ISOLATION
        end = "; it is taken out" if trigger is Trigger.QUARANTINE else ""
        told = f"{seed_id} touched the host while it was isolated, {count} times by now{end}"
        return Trouble(trigger, told, epoch, {"violations": str(count)}, seed_id)


def foreign_rates(changes: int, epoch: int, newest: Sequence[ForeignChange] = ()) -> Trouble | None:
    """So many settings of the optimizer that someone else had changed were found in the epoch."""
    if not changes:
        return None
    times = "once" if changes == 1 else f"{changes} times"
    told = f"someone else changed the optimizer {times}; each change was undone before the next step"
    if not newest:
        return Trouble(Trigger.FOREIGN_RATE, told, epoch)
    last = newest[-1]
    which = {"group": last.group, "setting": last.setting, "was": last.was, "found": last.found}
    return Trouble(Trigger.FOREIGN_RATE, f"{told}. The newest: {last.text}", epoch, which)


@dataclass
class MemoryUse:
    """Resident memory above its budget, and so far above that the system is about to end the process."""

    budget_bytes: int
    hard_ratio: float
    above: bool = False
    spent: bool = False

    def look(self, resident_bytes: int, epoch: int) -> Trouble | Relief | None:
        """The process has so much; that it is above its budget is told at each look."""
        budget = f"its budget is {self.budget_bytes / MB:.0f} MB"
        have = f"the process has {resident_bytes / MB:.0f} MB of memory, {budget}"
        if resident_bytes > self.budget_bytes * self.hard_ratio and not self.spent:
            self.above = self.spent = True
            return Trouble(Trigger.MEMORY_SPENT, f"{have}: before the system ends it the run halts", epoch)
        if resident_bytes > self.budget_bytes and not self.spent:
            self.above = True
            return Trouble(Trigger.MEMORY, have, epoch)
        if self.above and resident_bytes < self.budget_bytes * (1 - RELIEF):
            self.above = self.spent = False
            return Relief(Trigger.MEMORY)
        return None


@dataclass
class DiskSpace:
    """Too little space left where the run's folder is."""

    least_bytes: int
    """0 does not look."""
    short: bool = False

    def look(self, free_bytes: int, epoch: int) -> Trouble | Relief | None:
        """So much is free; a trouble is told once until it is over."""
        if free_bytes < self.least_bytes and not self.short:
            self.short = True
            told = f"{free_bytes / MB:.0f} MB are left on the disk of the run's folder; make room there"
            return Trouble(Trigger.DISK_FULL, told, epoch, {}, SPACE)
        if self.short and free_bytes >= self.least_bytes * (1 + RELIEF):
            self.short = False
            return Relief(Trigger.DISK_FULL, SPACE)
        return None


SPACE = "space"
"""Subject of the trouble that this watch tells; a write that failed for want of space is another's."""
