"""Tolaria's core: trains the host, and is the only one who changes the module or the optimizer.

    while not trainer.finished:
        result = trainer.run_epoch()            # steps, validation, what is measured of open seeds
        facts = trainer.assemble()              # the boundary begins: what the controller is told
        ...                                     # a command, judged by Kasmina, becomes a plan
        applied = trainer.apply(plan)           # the safe point: the network grows or shrinks
    final = trainer.final()

`keep` between two epochs copies all that the run goes on from, and `restore` brings it back, in this process
or in another. Everything is synchronous and runs in one thread, whichever calls; only `stop` is for others.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from contracts.config import Config
from contracts.growth import Candidate, GrowthView, ProbePlan, ProbeReport, SeedRecord
from contracts.messages import WallNs
from esper.kasmina.draw import draw_of, stream_of
from esper.kasmina.graft import Grafts
from esper.kasmina.guard import Guard
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.limits import Limits, burden_of
from esper.kasmina.plan import GraftPlan
from esper.tolaria.boundary import Standing, assemble, view
from esper.tolaria.errors import RestoreFailed
from esper.tolaria.flops import Account, FlopLedger
from esper.tolaria.fork import Build, Original
from esper.tolaria.keeping import keep, restore
from esper.tolaria.level import LossLevel
from esper.tolaria.loop import Sample
from esper.tolaria.machine import build_machine
from esper.tolaria.measure import judge
from esper.tolaria.probe import Bench, Probe
from esper.tolaria.pulse import Pulse, at_work
from esper.tolaria.recipe import ingredients
from esper.tolaria.rescue import Steps
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures, Suspect
from esper.tolaria.review import as_reviewed, review
from esper.tolaria.snapshot import Position, Snapshot
from esper.tolaria.task import Task, check_data


@dataclass(frozen=True)
class Timekeeping:
    """Where time comes from: nanoseconds since the Unix epoch, and seconds for durations."""

    wall_ns: Callable[[], WallNs] = time.time_ns
    seconds: Callable[[], float] = time.perf_counter


ODD_VALIDATION = (
    "the validation loss is not finite, though the network is: look at the validation data and at what the "
    "loss makes of them"
)


def tell_nobody(done: int, total: int) -> None:
    """The progress of a probe, told to nobody."""


class Trainer:
    """One training run.

    Args:
        counts_validation: whether the validation after each epoch is part of what is spent; say yes
            exactly when the policy reads it.
        build: makes a probe's candidate, and anew the module of a seed that comes from disk.

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
        self.pulse = Pulse()
        self._task, self._grafts, self._config, self._build = task, grafts, config, build
        self._time = timekeeping or Timekeeping()
        guard = Guard(config.growth.guard, self._time.seconds)
        self._machine = build_machine(task, grafts, config, counts_validation=counts_validation, guard=guard)
        self._purse = self._machine.purse
        self.ingredients = ingredients(self._machine.parts.optimizer)
        """What the optimizer was at the beginning."""
        self._host_params = sum(p.numel() for _, p in grafts.host_named_parameters())
        self._level = LossLevel(config.emergency.loss_ratio_max)
        self._at = Position(params=sum(p.numel() for p in grafts.model.parameters()))
        self._probe: Probe | None = None
        """The one that runs."""
        self._unsure = False
        """A restore failed half-way: nothing is trained or copied until one succeeds."""
        grafts.model.train()

    @property
    def finished(self) -> bool:
        """The budget has no step left."""
        return self._purse.steps(self._at.epoch) == 0

    @property
    def shortest(self) -> int:
        """FLOPs that a run takes at least: one step of the network as it is, and what belongs to it."""
        return self._purse.shortest

    @property
    def ledger(self) -> FlopLedger:
        """What has been spent, by account."""
        return self._machine.parts.ledger

    @property
    def guard(self) -> Guard:
        """The breakers of the safe point; the engine shares them, so as not to plan what fails."""
        return self._machine.safe_point.guard

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
        return self._at.params

    @property
    def progress(self) -> int | None:
        """Rises with each step, chunk of validation data, step of a fork or measurement of a seed; None while
        nothing is to be trained or measured. Read from any thread."""
        return self.pulse.count

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """What may be at fault if training stands still now. Read from any thread."""
        probe = self._probe
        if probe is not None and probe.at is not None:
            return tuple(Suspect(graft.blueprint_id) for graft in probe.at.grafts)
        seeds = list(self._machine.parts.growth.seeds.values())
        return tuple(Suspect(one.record.blueprint_id, one.record.seed_id) for one in seeds if one.open)

    def stop(self) -> None:
        """Ask from any thread that the epoch end after its step, or the probe after a step of its fork."""
        self._machine.loop.stop_requested = True

    @at_work
    def run_epoch(self) -> EpochResult:
        """Train to the next boundary, validate, and measure the seeds whose fate is undecided.

        After `stop` the epoch ends at once, with nothing validated; `result.stopped` says so.

        An epoch that breaks while seeds are live whose fate is undecided, by what may be their doing, is
        trained again from its beginning: with everyone, since what breaks once may be nobody's fault; then
        without the youngest of them, then without the next alone, then without all, at most `RESCUES_MAX`
        times in a run. The epoch's `set_aside` names those that were really out, `notices` says what was
        gone at the second try, and what the attempts cost stays spent.

        Raises:
            TrainingDiverged: a loss or gradient was not finite, or a loss was more than
                `emergency.loss_ratio_max` times its recent level. The step was not taken, the steps before it
                were; its passes are booked like theirs. Or the epoch's last step left the host so: then no
                boundary is there.
            what else a step raised, of `WRONG`, booked alike.
            RestoreFailed: the last restore failed half-way; another has to succeed first.
        """
        started = self._time.seconds()
        self._enter()
        machine, rates = self._machine, self._machine.parts.rates
        foreign = rates.foreign_changes
        machine.loop.loss_limit, machine.loop.opening = self._level.limit, self._level.opening()
        steps = Steps(machine, self._at)
        try:
            crew, trained = steps.train()
        finally:
            self._at = steps.at
            rates.look()
        self._at = replace(self._at, epoch=self._at.epoch + 1)
        self._level.saw(trained.loss, trained.loss_max)
        stopped = machine.loop.stop_requested
        aside = {one.seed_id for one in steps.aside}
        last = self._at.last
        measured = as_reviewed(machine, last) if stopped else review(machine, crew, aside, self._at)
        if not stopped:
            rates.epoch_over(measured.loss)
        told, notices = rates.take_told(), self._notices(0.0 if stopped else measured.loss)
        result = EpochResult(
            epoch=self._at.epoch,
            steps=trained.steps,
            train_loss=trained.loss,
            val_loss=measured.loss,
            val_accuracy=measured.accuracy,
            learning_rate=trained.learning_rate,
            grad_norm=trained.grad_norm,
            spent_flops=self.ledger.spent,
            wall_s=self._time.seconds() - started,
            stopped=stopped,
            conflict=self._machine.conflicts.closed(crew.comparison),
            set_aside=steps.aside,
            # What was found in an epoch that then broke was counted there, and is only told now.
            foreign_rate_changes=max(rates.foreign_changes - foreign, len(told)),
            foreign=told,
            notices=(*sorted(notices - self._at.noticed), *filter(None, (steps.tried_again,))),
        )
        self._at = replace(self._at, last=result, noticed=notices)
        return result

    def assemble(self, *, conservative: bool = False) -> Assembled:
        """The facts of the epoch that has just ended, for the controller and the gates.

        Raises:
            RuntimeError: no epoch has ended yet.
        """
        last = self._at.last
        if last is None:
            raise RuntimeError("there is nothing to assemble before the first epoch; call run_epoch first")
        parts, standing = self._machine.parts, self._standing(conservative=conservative)
        return assemble(standing, last, parts.growth, parts.rates, self._time.wall_ns())

    def outlook(self) -> GrowthView:
        """How growth stands before anything was trained."""
        return view(self._standing(conservative=False), self._machine.parts.growth)

    @at_work
    def apply(self, plan: GraftPlan) -> Applied:
        """Make a plan's changes; see `SafePoint.apply` for what a rollback restores.

        Raises:
            PlanRefused: the plan does not fit the network as it is; nothing has changed then.
        """
        applied = self._machine.safe_point.apply(plan)
        self._at = replace(self._at, params=self._at.params + applied.params_added - applied.params_removed)
        return applied

    @at_work
    def probe(self, plan: ProbePlan, tell: Callable[[int, int], None] = tell_nobody) -> ProbeReport:
        """Measure candidates on forks; the live run goes on bit for bit as if nothing had been probed.

        `tell` is called after each fork with how many of how many are done. The probe ends early,
        between two steps after `stop`, or when the next fork would overdraw the run's FLOP budget.

        Raises:
            PlanRefused: it is no plan, or no plan for this network: a site or blueprint that there is
                not, settings or a layout that do not fit, no contenders or rounds, or empty ones. No fork
                has been made then, and nothing has changed.
        """
        self._enter()
        self._probe = Probe(self._bench(tell), plan)
        try:
            report = self._probe.run(self._at.epoch, self._time.seconds)
        finally:
            self._probe = None
        self.ledger.add(Account.PROBE, report.flops)
        self._at = replace(self._at, evidence=report)
        return report

    @at_work
    def final(self) -> FinalFigures:
        """The finished network on validation, test and fresh data; no decision rests on the last two.

        To the watchdog the making of the fresh data is one piece of work, as a step is.

        Raises:
            BadData: the fresh data, made only now, can't be used.
        """
        self._enter()
        self._machine.distillation.let_go()
        judged = judge(self._grafts.model, self._task)
        return FinalFigures(
            val_loss=judged.validation.loss,
            val_accuracy=judged.validation.accuracy,
            test_loss=judged.test.loss,
            test_accuracy=judged.test.accuracy,
            fresh_accuracy=None if judged.fresh is None else judged.fresh.accuracy,
            params=self._at.params,
            train_flops=self.ledger.spent,
            flops=self.ledger.accounts(),
        )

    def keep(self, restored: Snapshot | None = None) -> Snapshot:
        """Everything that training goes on from, copied; between two epochs. Most of it is in what was just
        `restored`, and not copied again.

        Raises:
            RestoreFailed: the last restore failed half-way; another has to succeed first.
        """
        self._enter()
        return keep(self._machine, replace(self._at, level=self._level.state()), restored)

    @at_work
    def restore(self, snapshot: Snapshot, *, behind_break: bool = False) -> EpochResult | None:
        """Go back to a snapshot of this run, whatever has grown or gone since; bit for bit.

        What was spent since stays spent. With `behind_break` the data go on where they are, behind the batch
        that broke, since it would break the run again (Chowdhery et al. 2022, PaLM, section 5.1).

        Returns:
            The result of the epoch after which the snapshot was taken; None before the first.

        Raises:
            RestoreFailed: it says whether the trainer is as it was before.
        """
        torch.set_num_threads(self._config.run.threads)
        was, self._unsure = self._unsure, True
        try:
            restore(self._machine, snapshot, behind_break=behind_break)
        except RestoreFailed as failed:
            failed.consistent = failed.consistent and not was
            self._unsure = not failed.consistent
            raise
        told = self._at.noticed | snapshot.position.noticed  # what was told stays told
        self._at, self._unsure = replace(snapshot.position, noticed=told), False
        self._level.restore(snapshot.position.level)
        return snapshot.position.last

    def rebuild(self, record: SeedRecord) -> nn.Module:
        """The module of a seed of this run as it was when it was germinated.

        Raises:
            BlueprintError, UnknownBlueprint: it may not be built, or can't.
        """
        site = self._machine.parts.growth.sites[record.site]
        candidate = Candidate(record.site, record.blueprint_id, record.parameters, record.params)
        return self._build(site, candidate, stream_of(draw_of(self._config.run.seed, record.seed_id)))

    def _standing(self, *, conservative: bool) -> Standing:
        return Standing(
            run_id=self.run_id,
            step=self._at.step,
            progress=self._purse.progress(self._at.epoch),
            host_params=self._host_params,
            params=self._at.params,
            max_params=self._config.growth.max_params,
            step_flops=self._machine.costs.step,
            budget_flops=self._purse.budget.flops,
            spent_flops=self.ledger.spent,
            flops=self.ledger.accounts(),
            epoch_steps=self._config.train.epoch_steps,
            batch_size=self._config.train.batch_size,
            max_active=self._config.growth.max_active,
            limits=Limits(self._config.growth, burden_of(self._grafts, self._config)),
            conservative=conservative,
            evidence=self._at.evidence,
        )

    def _notices(self, val_loss: float) -> frozenset[str]:
        """What people should know as long as it is so."""
        machine = self._machine
        strangers = ", ".join(map(str, machine.safe_point.strangers))
        now = (
            f"foreign parameters, which nobody lets learn: {strangers}" if strangers else "",
            f"the schedule has ended: {machine.parts.rates.over}" if machine.parts.rates.over else "",
            "" if math.isfinite(val_loss) else ODD_VALIDATION,
        )
        return frozenset(filter(None, now))

    def _enter(self) -> None:
        """Torch's thread count belongs to the thread: set it in whichever one runs this."""
        if self._unsure:
            raise RestoreFailed("a restore failed half-way and none has succeeded since", consistent=False)
        torch.set_num_threads(self._config.run.threads)

    def _bench(self, tell: Callable[[int, int], None]) -> Bench:
        parts, loop = self._machine.parts, self._machine.loop
        rate = parts.rates.base(self._purse.progress(self._at.epoch))
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
