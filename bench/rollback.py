"""Going back to an earlier boundary as a run does it: from memory (`fast`), and from the disk (`full`).

A run with all its actors trains a host of 0.1, 1 or 10 million parameters with Adam and a live seed. Again
and again its seed is taken out, an epoch is trained, and the run has to go back: for `fast` since an operator
wants it to, for `full` since training broke and nothing is left in memory. A time is the run's own, as its
report has it: from the decision to go back, over Tamiyo, Kasmina and Tolaria, until those are told who only
listen.

    restore      of that, the network and its optimizer brought back
    keep         of that, the copy that the run could go back to next
    to_training  from the end of the epoch, or the break, until training runs again, with the next decision

After each the network is compared with what was kept, bit for bit; that is not timed.
"""

import asyncio
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import torch
from msgspec.structs import replace

from actors.company import Company
from actors.nissa.journal import Journal
from bench.large import FOR_EVER, WIDTHS, large_config, large_parts
from bench.measure import Budget, Size, percentiles
from bench.real_run import real_run
from contracts.budgets import PerformanceBudgets
from contracts.config import (
    BudgetConfig,
    Config,
    EmergencyConfig,
    GuardConfig,
)
from contracts.growth import ProbePlan, ProbeReport
from esper.assembly import Parts
from esper.kasmina.plan import GraftPlan, Remove
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures
from esper.tolaria.snapshot import Snapshot

SIZES = {Size.SMALL: ("0.1M",), Size.FULL: tuple(WIDTHS)}
ROUNDS = {Size.SMALL: {"fast": 3, "full": 1}, Size.FULL: {"fast": 30, "full": 10}}
WARM = {Size.SMALL: 1, Size.FULL: 2}
"""Rollbacks of each kind before the first that is measured."""
WRITTEN_S = 60.0
"""Longest wait for a checkpoint."""
LOOK_EVERY_S = 0.001
_LIMITS = PerformanceBudgets()
BUDGETS = tuple(
    Budget(f"{way}.{size}.p99_ms", limit)
    for way, limit in (("fast", _LIMITS.fast_rollback_ms), ("full", 1e3 * _LIMITS.full_rollback_seconds))
    for size in WIDTHS
)


@dataclass
class Wanderer:
    """The trainer, as its lane uses it: once the seed is live it goes astray in every epoch, until all is
    measured."""

    parts: Parts
    left: list[str]
    """Kinds of the rollbacks that are still to come, the next one last."""
    kept: Snapshot | None = None
    """What the run goes back to; None until the seed is live."""
    went_s: float = 0.0
    restores_s: list[float] = field(default_factory=list)
    keeps_s: list[float] = field(default_factory=list)
    """Of the copy behind each restore."""
    to_training_s: list[float] = field(default_factory=list)
    company: Company | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def meet(self, company: Company, _: Journal) -> None:
        """The run that it works for, on the running loop."""
        self.company, self._loop = company, asyncio.get_running_loop()

    @property
    def finished(self) -> bool:
        return self.parts.trainer.finished

    def run_epoch(self) -> EpochResult:
        self._come_back()
        live = bool(self.parts.grafts.live_ids())
        if self.kept is not None and self.left:
            return self._astray(self.left.pop())
        if self.kept is not None:
            self._tell(lambda company: company.halt("all is measured"))
        result = self.parts.trainer.run_epoch()
        if live and self.kept is None:
            self.kept = self.parts.trainer.keep()
        return result

    def _come_back(self) -> None:
        """A turn begins: the first one behind a rollback goes on from what was kept."""
        if len(self.restores_s) == len(self.to_training_s):
            return
        self.to_training_s.append(perf_counter() - self.went_s)
        assert self.kept is not None
        assert _bits(self.parts.trainer.keep()) == _bits(self.kept), "the run is not what it was"

    def _astray(self, kind: str) -> EpochResult:
        """The seed goes, and an epoch is trained; behind it the run goes back."""
        trainer = self.parts.trainer
        seeds = [trainer._machine.parts.growth.seeds[one] for one in self.parts.grafts.live_ids()]
        trainer.apply(GraftPlan("out", tuple(Remove(seed.record, rollback=False) for seed in seeds)))
        result = trainer.run_epoch()
        assert self.kept is not None
        assert _bits(trainer.keep()) != _bits(self.kept), "it is somewhere else"
        self._wait_for_the_disk()
        if kind == "fast":
            self._tell(lambda company: company.go_back("to measure it"))
        else:
            self._tell(lambda company: company.keeper.moments.clear())
        self.went_s = perf_counter()
        if kind == "full":
            raise TrainingDiverged(trainer._at.step, "training loss")
        return result

    def _wait_for_the_disk(self) -> None:
        assert self.company is not None
        keeper, until_s = self.company.keeper, perf_counter() + WRITTEN_S
        while keeper.writing or keeper.on_disk < 0:
            assert perf_counter() < until_s, "no checkpoint is written"
            threading.Event().wait(LOOK_EVERY_S)

    def _tell(self, act: Callable[[Company], object]) -> None:
        """Done on the loop before it hears how this epoch ended."""
        assert self.company is not None
        assert self._loop is not None
        self._loop.call_soon_threadsafe(act, self.company)

    def restore(self, snapshot: Snapshot, *, behind_break: bool) -> EpochResult | None:
        began = perf_counter()
        result = self.parts.trainer.restore(snapshot, behind_break=behind_break)
        self.restores_s.append(perf_counter() - began)
        return result

    def keep(self, restored: Snapshot | None = None) -> Snapshot:
        began = perf_counter()
        snapshot = self.parts.trainer.keep(restored)
        if len(self.restores_s) > len(self.keeps_s):
            self.keeps_s.append(perf_counter() - began)
        return snapshot

    def apply(self, plan: GraftPlan) -> Applied:
        self._come_back()
        return self.parts.trainer.apply(plan)

    def probe(self, plan: ProbePlan, tell: Callable[[int, int], None]) -> ProbeReport:
        return self.parts.trainer.probe(plan, tell)

    def assemble(self) -> Assembled:
        return self.parts.trainer.assemble()

    def final(self) -> FinalFigures:
        return self.parts.trainer.final()

    def stop(self) -> None:
        self.parts.trainer.stop()


def run(size: Size) -> dict[str, object]:
    """Latency of both ways back, by the host's size."""
    result: dict[str, dict[str, object]] = {
        part: {} for part in ("fast", "full", "restore", "keep", "to_training")
    }
    parameters: dict[str, object] = {}
    digest = 0
    for name in SIZES[size]:
        parts = large_parts(WIDTHS[name], _config())
        kinds = [kind for kind, rounds in ROUNDS[size].items() for _ in range(WARM[size] + rounds)]
        wanderer = Wanderer(parts, kinds[::-1])
        outcome = real_run(parts, training=wanderer, meet=wanderer.meet)
        told = outcome.witness.recorder.recorded.rollbacks
        assert [one.kind for one in told] == kinds
        assert wanderer.kept is not None
        parameters[name] = wanderer.kept.position.params
        for kind in ROUNDS[size]:
            measured = [number for number, one in enumerate(kinds) if one == kind][WARM[size] :]
            result[kind][name] = percentiles([told[one].took_ms / 1e3 for one in measured]).figures("ms")
            for part, took_s in (
                ("restore", wanderer.restores_s),
                ("keep", wanderer.keeps_s),
                ("to_training", wanderer.to_training_s),
            ):
                figures = percentiles([took_s[one] for one in measured]).figures("ms")
                result[part][f"{kind}.{name}"] = figures
        digest = zlib.crc32(repr(_bits(wanderer.kept)).encode(), digest)
    return {**result, "parameters": parameters, "digest": f"{digest:08x}"}


def _config() -> Config:
    """Nothing in it ends the run before all is measured."""
    config = large_config(FOR_EVER)
    return replace(
        config,
        growth=replace(config.growth, guard=GuardConfig(graft_ms=0.0, change_ms=0.0, rollback_ms=0.0)),
        checkpoint=replace(config.checkpoint, boundaries=2),
        budgets=BudgetConfig(epoch_boundary_ms=FOR_EVER, tamiyo_inference_ms=FOR_EVER),
        emergency=EmergencyConfig(rollbacks_max=FOR_EVER),
    )


def _bits(snapshot: Snapshot) -> dict[str, int]:
    """A checksum of each tensor of network and optimizer."""
    tensors = dict(snapshot.network.tensors)
    for name, entries in snapshot.optimizer.entries.items():
        tensors |= {
            f"{name}/{key}": value for key, value in entries.items() if isinstance(value, torch.Tensor)
        }
    return {name: zlib.crc32(tensor.contiguous().numpy().tobytes()) for name, tensor in tensors.items()}
