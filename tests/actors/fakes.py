"""A whole run without torch's work: a trainer that only keeps books, and a lane that spends virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from actors.lane import Deliver, Job, JobFailed
from contracts.config import GrowthConfig
from contracts.growth import (
    GrowthView,
    Layout,
    ProbePlan,
    ProbeReport,
    ProbeScore,
    SeedFigures,
    SeedRecord,
    SeedView,
    SiteInfo,
    SiteView,
)
from contracts.lifecycle import LIVE, Stage
from contracts.messages import SystemState
from contracts.report import Report
from contracts.view import EventKind, RunFacts, RunView
from esper.kasmina.plan import GraftPlan, Insert
from esper.tolaria.errors import RestoreFailed, TrainingDiverged
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures

T = TypeVar("T")

SITES = (
    SiteInfo("body.0", Layout.SEQUENCE, (4, 19), 4, 0),
    SiteInfo("body.1", Layout.SEQUENCE, (4, 10), 4, 1),
)
HOST_PARAMS = 338


class VirtualLane:
    """A lane whose every job takes `job_s` seconds of the loop's virtual time."""

    def __init__(self, job_s: float = 0.05) -> None:
        self.job_s = job_s
        self.jobs = 0

    def submit(self, job: Job, deliver: Deliver) -> None:
        self.jobs += 1
        asyncio.get_running_loop().call_later(self.job_s, lambda: deliver(_outcome(job)))

    def close(self, timeout_s: float) -> bool:
        return True


def _outcome(job: Job) -> object:
    try:
        return job()
    except Exception as error:  # noqa: BLE001 - as the real lane does
        return JobFailed(error)


class SlowThreads:
    """Worker threads that take `seconds` of virtual time for each piece of work."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def run(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(self.seconds)
        return work()


@dataclass(frozen=True)
class FakeSnapshot:
    """A fake trainer as it was."""

    epoch: int
    records: dict[str, SeedRecord]
    evidence: ProbeReport | None
    nbytes: int = 1 << 20


@dataclass
class FakeTrainer:
    """Keeps the books of growth as the real trainer does, with healthy figures and no network."""

    epochs: int = 30
    fails_at: int | None = None
    """Epoch whose training raises."""
    gain: float = 0.1
    epoch: int = 0
    stopped: bool = False
    records: dict[str, SeedRecord] = field(default_factory=dict)
    plans: list[GraftPlan] = field(default_factory=list)
    evidence: ProbeReport | None = None
    diverges_at: list[int] = field(default_factory=list)
    """Epochs that break, each as often as it is here."""
    lost: list[int] = field(default_factory=list)
    """Epochs whose snapshots can't be gone back to."""
    order: list[str] = field(default_factory=list)
    """Who has gone back, for whoever shares the list."""
    restored: list[tuple[int, bool]] = field(default_factory=list)
    """Epochs that it has gone back to, and whether behind the batch that broke."""

    @property
    def finished(self) -> bool:
        return self.epoch >= self.epochs

    def stop(self) -> None:
        self.stopped = True

    def run_epoch(self) -> EpochResult:
        self.epoch += 1
        if self.epoch == self.fails_at:
            raise ArithmeticError("the loss is not a number")
        if self.epoch in self.diverges_at:
            self.diverges_at.remove(self.epoch)
            self.epoch -= 1
            raise TrainingDiverged(self.epoch * 40 + 7, "training loss")
        return self._result()

    def keep(self, restored: FakeSnapshot | None = None) -> FakeSnapshot:
        return FakeSnapshot(self.epoch, dict(self.records), self.evidence)

    def restore(self, snapshot: FakeSnapshot, *, behind_break: bool) -> EpochResult | None:
        if snapshot.epoch in self.lost:
            raise RestoreFailed("its snapshot is lost", consistent=True)
        self.restored.append((snapshot.epoch, behind_break))
        self.order.append("tolaria")
        self.epoch, self.records, self.evidence = snapshot.epoch, dict(snapshot.records), snapshot.evidence
        return self._result() if self.epoch else None

    def _result(self) -> EpochResult:
        loss = 1.0 / self.epoch
        return EpochResult(self.epoch, 40, loss, loss, 0.5, 0.01, 1.0, self.epoch * 10**9, 0.05, self.stopped)

    def apply(self, plan: GraftPlan) -> Applied:
        self.plans.append(plan)
        added = 0
        for change in plan.changes:
            self.records[change.record.seed_id] = change.record
            if isinstance(change, Insert):
                added += sum(parameter.numel() for parameter in change.module.parameters())
        return Applied(plan.plan_id, added)

    def probe(self, plan: ProbePlan, tell: Callable[[int, int], None]) -> ProbeReport:
        tell(1, 1)
        scores = tuple(ProbeScore(one, 0.5 + n / 10, 1.0, 10, 1000) for n, one in enumerate(plan.contenders))
        self.evidence = ProbeReport(plan.probe_id, self.epoch, scores, 10**6, 0.1)
        return self.evidence

    def assemble(self) -> Assembled:
        state = SystemState(
            self.epoch, 0.5, 1.0 / self.epoch, 0, f"fake-{self.epoch}", self.epoch * 40, 1.0, "fake",
            training_metrics={"learning_rate": 0.01},
        )  # fmt: skip
        return Assembled(state, self._view(), {seed_id: self._figures(seed_id) for seed_id in self.records})

    def final(self) -> FinalFigures:
        return FinalFigures(0.1, 0.9, 0.1, 0.9, 0.9, self.params, self.epoch * 10**9, {"train": 10**6})

    @property
    def params(self) -> int:
        inside = (one.params for one in self.records.values() if one.stage in LIVE | {Stage.GERMINATED})
        return HOST_PARAMS + sum(inside)

    def _figures(self, seed_id: str) -> SeedFigures:
        return SeedFigures(
            seed_id, finite=True, shape_kept=True, grad_norm=1.0, rms_ratio=0.1, jump=0.0,
            loss_with=1.0, loss_without=1.0 + self.gain, accuracy_with=0.6, accuracy_without=0.5,
            starved_tensors=0, cleared=True,
        )  # fmt: skip

    def _view(self) -> GrowthView:
        return GrowthView(
            epoch=self.epoch,
            progress=self.epoch / self.epochs,
            host_params=HOST_PARAMS,
            params=self.params,
            max_params=1300,
            step_flops=704_000,
            budget_flops=None,
            spent_flops=self.epoch * 10**9,
            epoch_steps=40,
            batch_size=100,
            max_active=GrowthConfig().max_active,
            sites=tuple(self._site(site) for site in SITES),
            evidence=self.evidence,
        )

    def _site(self, site: SiteInfo) -> SiteView:
        here = [self._seed(one) for one in self.records.values() if one.site == site.name]
        fossils = tuple(seed for seed in here if seed.record.stage is Stage.FOSSILIZED)
        open_ = [seed for seed in here if seed.record.stage is not Stage.FOSSILIZED]
        return SiteView(site, fossils, open_[-1] if open_ else None)

    def _seed(self, record: SeedRecord) -> SeedView:
        return SeedView(record, self._figures(record.seed_id), self.gain, self.epoch)


class Spectator:
    """A display that only remembers."""

    unheard = False

    def __init__(self) -> None:
        self.views: list[RunView] = []
        self.events: list[str] = []

    def start(self, facts: RunFacts) -> None:
        pass

    def update(self, view: RunView) -> None:
        self.views.append(view)

    def event(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        self.events.append(f"{kind}: {text}")

    def finish(self, report: Report) -> None:
        pass

    def close(self) -> None:
        pass
