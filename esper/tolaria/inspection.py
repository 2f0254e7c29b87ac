"""After the epoch: what is measured of the seeds whose fate is undecided, and what it costs."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from contracts.config import GrowthConfig
from contracts.lifecycle import Stage
from esper.kasmina.advance import planned_epochs
from esper.kasmina.counterfactual import Batches, Score, compare
from esper.kasmina.gauge import gauge, starved
from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.purity import impurity
from esper.tolaria.costs import CostBook
from esper.tolaria.flops import Account, FlopLedger
from esper.tolaria.growth import Seed
from esper.tolaria.loop import Watched
from esper.tolaria.measure import Measured, measure
from esper.tolaria.task import Task, Tensors

T = TypeVar("T")


@dataclass(frozen=True)
class Inspection:
    """Measures seeds on `batch` (one training mini-batch) and on the validation data of the epoch."""

    grafts: Grafts
    task: Task
    batch: tuple[Tensor, Tensor]
    validation: Tensors
    config: GrowthConfig
    costs: CostBook
    ledger: FlopLedger
    isolation: IsolationMonitor

    def take_over(self, seed: Seed, watched: Watched) -> None:
        """The figures that the steps of the epoch gave."""
        if watched.norms:
            seed.measured(grad_norm=watched.norm_sum / watched.norms)
        if watched.rms_ratio is not None:
            seed.measured(rms_ratio=watched.rms_ratio)
        violations = self.isolation.violations(seed.record.seed_id)
        seed.measured(finite=watched.finite, isolation_violations=violations)

    def inspect(self, seed: Seed, epoch: int, validated: Measured) -> bool:
        """Measure what is due of `seed` at the end of `epoch`; `validated` is the epoch's validation.

        What it gains is compared every `counterfactual_every` epochs of a stage and at the stage's
        planned end. A new seed is gauged once, a live one with the first comparison of a stage, a
        blending one every epoch. Whether it starves the host is looked at once in each stage in which
        it is, or is about to be, in the forward pass. In a drill it is looked at every epoch whether the seed
        is a function at all.

        Returns:
            Whether it was compared.
        """
        if not seed.live:
            self._check_isolation(seed)
        if seed.record.drill:
            self._check_purity(seed)
        stage = seed.record.stage
        due = self._comparison_due(seed, epoch)
        anew = seed.live and due and seed.gauged_in is not stage
        if seed.gauged_in is None or stage is Stage.BLENDING or anew:
            self._gauge(seed)
        if seed.figures.shape_kept is False:
            return False  # it can't run in the network: there is nothing more to measure
        if seed.starved_in is not stage and (seed.live or stage is Stage.GERMINATED):
            self._look_for_starved(seed)
        if due:
            self._compare(seed, epoch, validated)
        return due

    def cost(self, step_flops: int, forward_flops: int) -> int:
        """FLOPs that inspecting one seed takes at most, the epoch's validation pass included."""
        return 10 * step_flops + 2 * forward_flops

    def _check_isolation(self, seed: Seed) -> None:
        """See that the host runs bit for bit as if isolated seeds were not there; count where not."""
        seed_id = seed.record.seed_id
        self.ledger.add(Account.GAUGE, self.costs.of_passes("isolation", seed_id, self._checked))
        seed.measured(isolation_violations=self.isolation.violations(seed_id))

    def _checked(self) -> int:
        """The number of passes that a check took: more than two to find who is at fault."""
        before = self.isolation.passes
        self.isolation.check(self.batch[0])
        return self.isolation.passes - before

    def _check_purity(self, seed: Seed) -> None:
        found = self._booked(
            Account.GAUGE,
            "purity",
            seed,
            lambda: impurity(self.grafts, seed.record.seed_id, self.batch[0]),
        )
        seed.measured(pure=not found)

    def _gauge(self, seed: Seed) -> None:
        inputs, targets = self.batch
        figures = self._booked(
            Account.GAUGE,
            "gauge",
            seed,
            lambda: gauge(self.grafts, seed.record.seed_id, inputs, targets, self.task.loss_fn, seed.stream),
        )
        if seed.gauged_in is None:
            seed.measured(jump=figures.jump, shape_kept=figures.shape_kept, grad_norm=figures.grad_norm)
        seed.gauged_in = seed.record.stage
        sound = figures.finite and seed.figures.finite is not False  # what the epoch's steps have shown stays
        seed.measured(finite=sound, rms_ratio=figures.rms_ratio)

    def _look_for_starved(self, seed: Seed) -> None:
        inputs, targets = self.batch
        with nullcontext() if seed.live else self.grafts.with_(seed.record.seed_id):
            names = self._booked(
                Account.GAUGE,
                "starved",
                seed,
                lambda: starved(self.grafts, inputs, targets, self.task.loss_fn, seed.stream),
            )
        seed.starved_in = seed.record.stage
        seed.measured(starved_tensors=len(names))

    def _comparison_due(self, seed: Seed, epoch: int) -> bool:
        record = seed.record
        age = epoch - record.stage_epoch
        if record.stage is Stage.GERMINATED:
            return age == 1
        return age > 0 and (
            age % self.config.counterfactual_every == 0 or age == planned_epochs(record, record.stage)
        )

    def _compare(self, seed: Seed, epoch: int, validated: Measured) -> None:
        """The epoch's validation is one side of the comparison: only the other is measured."""
        seed_id, as_is = seed.record.seed_id, (validated.loss, validated.accuracy)
        batches = ((self.validation.inputs, self.validation.targets),)
        found = self._booked(
            Account.COUNTERFACTUAL,
            "comparison",
            seed,
            lambda: compare(self.grafts, seed_id, batches, self._score, as_is),
        )
        seed.measured(
            loss_with=found.loss_with,
            loss_without=found.loss_without,
            accuracy_with=found.accuracy_with,
            accuracy_without=found.accuracy_without,
        )
        seed.gain, seed.gain_epoch = seed.figures.gain, epoch

    def _score(self, model: nn.Module, batches: Batches) -> Score:
        ((inputs, targets),) = batches
        assert isinstance(inputs, Tensor)
        measured = measure(model, Tensors(inputs, targets), self.task.loss_fn, self.task.accuracy_fn)
        return measured.loss, measured.accuracy

    def _booked(self, account: Account, work: str, seed: Seed, run: Callable[[], T]) -> T:
        """The result of `run`, its FLOPs booked."""
        result, flops = self.costs.of_seed(work, seed.record.seed_id, run)
        self.ledger.add(account, flops)
        return result
