"""Tolaria's core: trains the host, and is the only one who changes the module or the optimizer.

    while not trainer.finished:
        result = trainer.run_epoch()            # steps, validation, what is measured of open seeds
        facts = trainer.assemble()              # the boundary begins: what the controller is told
        ...                                     # a command, judged by Kasmina, becomes a plan
        applied = trainer.apply(plan)           # the safe point: the network grows or shrinks
    final = trainer.final()

Everything is synchronous and runs in one thread, whichever calls; only `stop` is for others.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from contracts.config import Config
from contracts.growth import ProbePlan, ProbeReport
from contracts.messages import WallNs
from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.plan import GraftPlan
from esper.tolaria.blame import attempts, may_be_a_seeds
from esper.tolaria.boundary import Standing, assemble
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.flops import Account, FlopLedger
from esper.tolaria.fork import Build, Original
from esper.tolaria.growth import Seed
from esper.tolaria.loop import Crew, Sample, Trained
from esper.tolaria.machine import build_machine
from esper.tolaria.measure import Measured, judge, measure
from esper.tolaria.probe import Bench, Probe
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures, SetAside
from esper.tolaria.snapshot import Position, Snapshot, restore_snapshot, take_snapshot
from esper.tolaria.task import Task, check_data
from esper.tolaria.trial import WRONG

log = logging.getLogger(__name__)

RESCUES_MAX = 8
"""Times in a run that an epoch is trained again without a seed that broke it; then the run ends as broken."""


@dataclass(frozen=True)
class Timekeeping:
    """Where time comes from: nanoseconds since the Unix epoch, and seconds for durations."""

    wall_ns: Callable[[], WallNs] = time.time_ns
    seconds: Callable[[], float] = time.perf_counter


def tell_nobody(done: int, total: int) -> None:
    """The progress of a probe, told to nobody."""


class Trainer:
    """One training run.

    Args:
        counts_validation: whether the validation after each epoch is part of what is spent; say yes
            exactly when the policy reads it.
        build: makes a probe's candidate.

    Raises:
        BadData: a split is empty, of unequal lengths or not finite.
        ValueError: the configuration states no length, or two.
    """

    def __init__(
        self,
        task: Task,
        grafts: Grafts,
        config: Config,
        run_id: str,
        *,
        counts_validation: bool = True,
        build: Build,
        timekeeping: Timekeeping | None = None,
    ) -> None:
        for split, data in (("train", task.train), ("validation", task.validation), ("test", task.test)):
            check_data(split, data)
        self.run_id = run_id
        self._task, self._grafts, self._config, self._build = task, grafts, config, build
        self._time = timekeeping or Timekeeping()
        self._machine = build_machine(task, grafts, config, counts_validation=counts_validation)
        self._purse = self._machine.purse
        self._host_params = sum(p.numel() for _, p in grafts.host_named_parameters())
        self._params = sum(p.numel() for p in grafts.model.parameters())
        self._epoch = self._step = self._rescues = 0
        self._last: EpochResult | None = None
        self._evidence: ProbeReport | None = None
        grafts.model.train()

    @property
    def finished(self) -> bool:
        """The budget has no step left."""
        return self._purse.steps(self._epoch) == 0

    @property
    def ledger(self) -> FlopLedger:
        """What has been spent, by account."""
        return self._machine.parts.ledger

    @property
    def isolation(self) -> IsolationMonitor:
        """Counts what isolated seeds did to the host; it should be nothing."""
        return self._machine.isolation

    @property
    def samples(self) -> deque[Sample]:
        """Every tenth step as telemetry sees it, the newest thousand; to be emptied by whoever reads them."""
        return self._machine.loop.samples

    @property
    def params(self) -> int:
        """Parameters of the network as it is, seeds in place included."""
        return self._params

    def stop(self) -> None:
        """Ask from any thread that the epoch end after its step, or the probe after its fork."""
        self._machine.loop.stop_requested = True

    def run_epoch(self) -> EpochResult:
        """Train to the next boundary, validate, and measure the seeds whose fate is undecided.

        After `stop` the epoch ends at once, with nothing validated; `result.stopped` says so.

        An epoch that breaks while seeds are live whose fate is undecided, by what may be their doing, is
        trained again from its beginning without the youngest of them, then without the next alone, then
        without all, at most `RESCUES_MAX` times in a run: the epoch's `set_aside` names those that were
        really out, and what the attempts cost stays spent.

        Raises:
            TrainingDiverged: a loss or gradient was not finite. The step was not taken, the steps before
                it were, and are booked.
            what else a step raised, of `WRONG`, booked alike.
        """
        started = self._time.seconds()
        self._enter()
        rates = self._machine.parts.rates
        foreign = rates.foreign_changes
        crew, trained, aside = self._train()
        self._epoch += 1
        stopped = self._machine.loop.stop_requested
        measured = self._newest_validation() if stopped else self._look(crew, {one.seed_id for one in aside})
        self._last = EpochResult(
            epoch=self._epoch,
            steps=trained.steps,
            train_loss=trained.loss,
            val_loss=measured.loss,
            val_accuracy=measured.accuracy,
            learning_rate=trained.learning_rate,
            grad_norm=trained.grad_norm,
            spent_flops=self.ledger.spent,
            wall_s=self._time.seconds() - started,
            stopped=stopped,
            set_aside=aside,
            foreign_rate_changes=rates.foreign_changes - foreign,
        )
        return self._last

    def assemble(self, *, conservative: bool = False) -> Assembled:
        """The facts of the epoch that has just ended, for the controller and the gates.

        Raises:
            RuntimeError: no epoch has ended yet.
        """
        if self._last is None:
            raise RuntimeError("there is nothing to assemble before the first epoch; call run_epoch first")
        parts = self._machine.parts
        standing = Standing(
            run_id=self.run_id,
            step=self._step,
            progress=self._purse.progress(self._epoch),
            host_params=self._host_params,
            params=self._params,
            max_params=self._config.growth.max_params,
            step_flops=self._machine.costs.step,
            budget_flops=self._purse.budget.flops,
            spent_flops=self.ledger.spent,
            flops=self.ledger.accounts(),
            epoch_steps=self._config.train.epoch_steps,
            batch_size=self._config.train.batch_size,
            max_active=self._config.growth.max_active,
            conservative=conservative or parts.rates.foreign_changes > 0,
            evidence=self._evidence,
        )
        return assemble(standing, self._last, parts.growth, parts.rates, self._time.wall_ns())

    def apply(self, plan: GraftPlan) -> Applied:
        """Make a plan's changes; see `SafePoint.apply` for what a rollback restores.

        Raises:
            PlanRefused: the plan does not fit the network as it is; nothing has changed then.
        """
        applied = self._machine.safe_point.apply(plan)
        self._params += applied.params_added - applied.params_removed
        return applied

    def probe(self, plan: ProbePlan, tell: Callable[[int, int], None] = tell_nobody) -> ProbeReport:
        """Measure candidates on forks; the live run goes on bit for bit as if nothing had been probed.

        `tell` is called after each fork with how many of how many are done. The probe ends early,
        between two forks, after `stop` or when the next fork would overdraw the run's FLOP budget.

        Raises:
            PlanRefused: it is no plan, or no plan for this network: a site or blueprint that there is
                not, settings or a layout that do not fit, no contenders or rounds, or empty ones. No fork
                has been made then, and nothing has changed.
        """
        self._enter()
        report = Probe(self._bench(tell), plan).run(self._epoch, self._time.seconds)
        self.ledger.add(Account.PROBE, report.flops)
        self._evidence = report
        return report

    def final(self) -> FinalFigures:
        """The finished network on validation, test and fresh data; the only use of the last two.

        Raises:
            BadData: the fresh data, made only now, can't be used.
        """
        self._enter()
        judged = judge(self._grafts.model, self._task)
        return FinalFigures(
            val_loss=judged.validation.loss,
            val_accuracy=judged.validation.accuracy,
            test_loss=judged.test.loss,
            test_accuracy=judged.test.accuracy,
            fresh_accuracy=None if judged.fresh is None else judged.fresh.accuracy,
            params=self._params,
            train_flops=self.ledger.spent,
            flops=self.ledger.accounts(),
        )

    def snapshot(self) -> Snapshot:
        """Everything that training goes on from, copied; restoring it resumes bit for bit."""
        point, counts = self._machine.safe_point, self._machine.costs.state()
        position = Position(
            self._epoch, self._step, point.shape, point.version, counts, self._last, self._evidence
        )
        return take_snapshot(self._machine.parts, position)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this run.

        Raises:
            PlanRefused: the network has other seeds in it than then; nothing has changed.
        """
        restore_snapshot(self._machine.parts, snapshot)
        position = snapshot.position
        self._epoch, self._step, self._last = position.epoch, position.step, position.last
        self._evidence = position.evidence
        point = self._machine.safe_point
        point.shape, point.version = position.shape, position.version
        self._machine.costs.restore(position.counts)

    def _enter(self) -> None:
        """Torch's thread count belongs to the thread: set it in whichever one runs this."""
        torch.set_num_threads(self._config.run.threads)

    def _train(self) -> tuple[Crew, Trained, tuple[SetAside, ...]]:
        """The epoch's steps, if need be without seeds that break them."""
        growth, crew = self._machine.parts.growth, self._machine.crew()
        suspects = [seed_id for seed_id in self._grafts.live_ids() if growth.seeds[seed_id].open]
        if not suspects:
            return crew, self._steps(crew), ()
        here, without, tried = self.snapshot(), attempts(suspects), tuple[SetAside, ...]()
        while True:
            try:
                return crew, self._steps(crew), tried
            except (TrainingDiverged, *WRONG) as error:
                out = next(without, None) if self._may_be_rescued(error, suspects) else None
                if out is None:
                    raise
                log.warning("the epoch is trained again without %s", ", ".join(out), exc_info=error)
                self._rescues += 1
                reason = str(error) or type(error).__name__
                tried = tuple(SetAside(seed_id, self._step, reason) for seed_id in out)
                self._go_back(here, out)
                crew = self._machine.crew()

    def _may_be_rescued(self, error: Exception, suspects: Sequence[str]) -> bool:
        modules = [self._grafts.module(seed_id) for seed_id in suspects]
        return self._rescues < RESCUES_MAX and may_be_a_seeds(error, modules)

    def _go_back(self, here: Snapshot, out: Sequence[str]) -> None:
        """To the epoch's beginning, without these seeds; what was spent since is gone."""
        spent = self.ledger.accounts()
        self.restore(here)
        self.ledger.restore(spent)
        for seed_id in out:
            self._machine.safe_point.set_aside(seed_id)

    def _steps(self, crew: Crew) -> Trained:
        """The epoch's steps, booked."""
        steps, pace = self._purse.steps(self._epoch), self._purse.pace(self._epoch)
        first = self._step
        try:
            with self._machine.parts.stream.in_place():
                trained = self._machine.loop.run(crew, first, steps, pace)
        except TrainingDiverged as diverged:
            self._book(diverged.step - first)
            raise
        except WRONG:
            self._book(self._machine.loop.broken_at - first)
            raise
        self._book(trained.steps)
        return trained

    def _book(self, steps: int) -> None:
        self._step += steps
        self._purse.book_steps(steps)

    def _look(self, crew: Crew, aside: Collection[str]) -> Measured:
        """Validate, then measure what is due of open seeds while the budget lasts; not of those set aside."""
        task, inspection, growth = self._task, self._machine.inspection, self._machine.parts.growth
        measured = measure(self._grafts.model, self._machine.validation, task.loss_fn, task.accuracy_fn)
        for watched in crew.watched:
            inspection.take_over(growth.seeds[watched.seed_id], watched)
        cost = inspection.cost(self._machine.costs.step, self._purse.forward)
        compared = False
        for seed in growth.open_seeds():
            if cost <= self._purse.left and seed.record.seed_id not in aside:
                compared |= self._inspect(seed, measured)
        self._purse.book_validation(compared)
        return measured

    def _inspect(self, seed: Seed, measured: Measured) -> bool:
        """Whether it was compared; one that raises is not sound, which the next boundary acts on."""
        try:
            return self._machine.inspection.inspect(seed, self._epoch, measured)
        except WRONG as error:
            if not may_be_a_seeds(error, [self._grafts.module(seed.record.seed_id)]):
                raise
            log.warning("%s fails when it is measured", seed.record.seed_id, exc_info=error)
            seed.measured(finite=False)
            return False

    def _newest_validation(self) -> Measured:
        """What the last full epoch ended with; NaN before the first."""
        if self._last is None:
            return Measured(math.nan, None, 0)
        return Measured(self._last.val_loss, self._last.val_accuracy, len(self._machine.validation))

    def _bench(self, tell: Callable[[int, int], None]) -> Bench:
        parts, loop = self._machine.parts, self._machine.loop
        rate = parts.rates.base(self._purse.progress(self._epoch))
        return Bench(
            original=Original(self._grafts, parts.optimizer, self._task.loss_fn, rate),
            sites=parts.growth.sites,
            step_flops=self._machine.costs.step,
            train=self._task.train,
            validation=self._task.validation,
            batch_size=self._config.train.batch_size,
            build=self._build,
            seed=self._config.run.seed,
            flops_max=self._purse.left,
            goes_on=lambda: not loop.stop_requested,
            tell=tell,
        )
