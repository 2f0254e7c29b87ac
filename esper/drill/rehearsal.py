"""The trainer of a drill: holds the trial when asked, and keeps what shows whether the host was restored.

It stands between the lane and the trainer and changes nothing of what passes through.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from contracts.growth import ProbePlan, ProbeReport
from contracts.kernels import Design
from esper.drill.policy import TrialDesk
from esper.drill.report import TrialReport
from esper.karn.blueprints.hazard import Hazard
from esper.karn.permission import DrillPermission
from esper.kasmina.footprint import same_bits
from esper.kasmina.graft import Grafts
from esper.kasmina.plan import GraftPlan, Insert, Remove, SetAlpha
from esper.kasmina.slot import is_grown
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures, SetAside
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.trainer import Trainer, tell_nobody


@dataclass
class Observed:
    """What was seen of the drill's seed."""

    seed_id: str = ""
    was_live: bool = False
    clean_step: int = 0
    """Steps taken up to the last boundary at which it had not misbehaved yet."""
    misbehaved: bool = False
    removed_step: int | None = None
    removed_epoch: int | None = None
    rolled_back: bool = False
    restored: bool = False
    """After the removal with rollback the host was bit for bit as before the graft."""
    set_aside: SetAside | None = None
    violations: int = 0


class Rehearsal:
    """A `Training` for the lane; `examine` holds the trial, and may take its time."""

    def __init__(
        self,
        trainer: Trainer,
        grafts: Grafts,
        desk: TrialDesk,
        permission: DrillPermission,
        design: Design,
        examine: Callable[[], TrialReport],
    ) -> None:
        self._trainer, self._grafts = trainer, grafts
        self._desk, self._permission, self._design = desk, permission, design
        self._examine = examine
        self._before: dict[str, Tensor] = {}
        self._epoch = self._step = 0
        self.seen = Observed()

    @property
    def finished(self) -> bool:
        return self._trainer.finished

    def run_epoch(self) -> EpochResult:
        if self._desk.wanted and self._desk.report is None:
            self._desk.report = self._examine()
            if self._desk.report.passed:
                self._permission.admit(self._design)
        result = self._trainer.run_epoch()
        self._epoch, self._step = result.epoch, self._step + result.steps
        self._look(result)
        return result

    def apply(self, plan: GraftPlan) -> Applied:
        for change in plan.changes:
            if isinstance(change, Insert):
                self._before = host_of(self._grafts)
                self.seen.seed_id, self.seen.clean_step = change.record.seed_id, self._step
            elif isinstance(change, SetAlpha):
                self.seen.was_live = True
        applied = self._trainer.apply(plan)
        for change in plan.changes:
            if isinstance(change, Remove) and change.record.seed_id == self.seen.seed_id:
                self._removed(change)
        return applied

    def probe(self, plan: ProbePlan, tell: Callable[[int, int], None] = tell_nobody) -> ProbeReport:
        return self._trainer.probe(plan, tell)

    def assemble(self) -> Assembled:
        assembled = self._trainer.assemble()
        figures = assembled.figures.get(self.seen.seed_id)
        if figures is not None:
            self.seen.violations = max(self.seen.violations, figures.isolation_violations)
        return assembled

    def final(self) -> FinalFigures:
        return self._trainer.final()

    def keep(self, restored: Snapshot | None = None) -> Snapshot:
        return self._trainer.keep(restored)

    def restore(self, snapshot: Snapshot, *, behind_break: bool) -> EpochResult | None:
        return self._trainer.restore(snapshot, behind_break=behind_break)

    def stop(self) -> None:
        self._trainer.stop()

    def _look(self, result: EpochResult) -> None:
        mine = [one for one in result.set_aside if one.seed_id == self.seen.seed_id]
        self.seen.set_aside = mine[0] if mine else self.seen.set_aside
        if self.seen.seed_id in self._grafts.seed_ids():
            module = self._grafts.module(self.seen.seed_id)
            if isinstance(module, Hazard) and module.awake:
                self.seen.misbehaved = True
        if not self.seen.misbehaved:
            self.seen.clean_step = self._step

    def _removed(self, change: Remove) -> None:
        seen = self.seen
        seen.removed_step, seen.removed_epoch = self._step, self._epoch
        seen.rolled_back = change.record.rolled_back
        seen.restored = seen.rolled_back and same_host(host_of(self._grafts), self._before)


def host_of(grafts: Grafts) -> dict[str, Tensor]:
    """The host's tensors, copied, by their names; nothing that has grown is among them."""
    named = {**dict(grafts.model.named_parameters()), **dict(grafts.model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items() if not is_grown(name)}


def same_host(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same names, and under each the same bits."""
    return one.keys() == other.keys() and all(same_bits(one[name], other[name]) for name in one)
