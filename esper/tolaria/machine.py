"""The parts of one training run, put together from a task and a configuration."""

from dataclasses import dataclass, field

from contracts.config import Config
from esper.kasmina.graft import Grafts
from esper.kasmina.guard import Guard
from esper.kasmina.isolation import IsolationMonitor
from esper.tolaria.budget import budget_of
from esper.tolaria.conflict import Conflicts
from esper.tolaria.costs import CostBook
from esper.tolaria.crew import crew_of
from esper.tolaria.flops import FlopLedger
from esper.tolaria.growth import Growth
from esper.tolaria.inspection import Inspection
from esper.tolaria.loader import Loader
from esper.tolaria.loop import Crew, StepLoop
from esper.tolaria.purse import Purse
from esper.tolaria.randomness import Stream, generator_for
from esper.tolaria.rates import Rates
from esper.tolaria.recipe import optimizer_of, schedule_of
from esper.tolaria.safepoint import SafePoint
from esper.tolaria.snapshot import Parts
from esper.tolaria.spare import Spare
from esper.tolaria.task import LossFn, Task, Tensors
from esper.tolaria.teacher import Distillation


@dataclass(frozen=True)
class Machine:
    """What a trainer works with; `parts` is all of it that changes while it trains."""

    task: Task
    config: Config
    parts: Parts
    safe_point: SafePoint
    costs: CostBook
    purse: Purse
    loop: StepLoop
    inspection: Inspection
    isolation: IsolationMonitor
    conflicts: Conflicts
    distillation: Distillation
    validation: Tensors
    """What is looked at after each epoch."""
    spare: Spare = field(default_factory=Spare)
    """What copies of the run are made in."""

    def crew(self) -> Crew:
        """Who takes part in the next epoch's steps; no foreign parameter does."""
        self.safe_point.look()
        self.distillation.follow()
        parts = self.parts
        return crew_of(
            parts.grafts,
            parts.growth,
            self.task.loss_fn,
            self.costs,
            parts.ledger,
            self.isolation,
            self.conflicts,
        )


def build_machine(
    task: Task, grafts: Grafts, config: Config, *, counts_validation: bool, guard: Guard
) -> Machine:
    """Put the parts together. Validation that the schedule reads is part of what is spent in any case.

    Raises:
        BadOptimizer: the optimizer or the schedule can't be used.
        ValueError: the configuration states no length, or two.
    """
    parts = _parts(task, grafts, config, counts_validation)
    isolation = IsolationMonitor(grafts)
    safe_point = SafePoint(
        grafts,
        parts.optimizer,
        parts.rates,
        parts.growth,
        isolation,
        config.train,
        guard,
    )
    batch = parts.loader.example()
    costs = CostBook(grafts.model, batch, task.loss_fn, parts.ledger)
    validation = task.validation.first(config.train.validation_examples)
    distillation = Distillation(
        task, grafts, parts.growth, parts.ledger, config.growth.distill, config.run.seed
    )
    conflicts = Conflicts(grafts, parts.growth, config.growth, config.run.seed)
    return Machine(
        task=task,
        config=config,
        parts=parts,
        safe_point=safe_point,
        costs=costs,
        purse=Purse(
            budget=budget_of(config.run),
            costs=costs,
            ledger=parts.ledger,
            growth=parts.growth,
            safe_point=safe_point,
            conflicts=conflicts,
            distillation=distillation,
            config=config,
            validation_examples=len(validation),
        ),
        loop=_loop(distillation.loss_fn, config, parts),
        inspection=Inspection(grafts, task, batch, validation, config.growth, costs, parts.ledger, isolation),
        isolation=isolation,
        conflicts=conflicts,
        distillation=distillation,
        validation=validation,
    )


def _parts(task: Task, grafts: Grafts, config: Config, counts_validation: bool) -> Parts:
    train, seed = config.train, config.run.seed
    optimizer = optimizer_of(task, train, grafts.host_named_parameters())
    rates = Rates(optimizer, schedule_of(task, train, optimizer))
    return Parts(
        grafts=grafts,
        optimizer=optimizer,
        rates=rates,
        loader=Loader(task.train, train.batch_size, generator_for(seed, "batches")),
        growth=Growth(grafts.sites, config.growth.max_per_site, seed),
        ledger=FlopLedger(counts_validation=counts_validation or rates.reads_validation),
        stream=Stream(seed, "training"),
    )


def _loop(loss_fn: LossFn, config: Config, parts: Parts) -> StepLoop:
    return StepLoop(
        model=parts.grafts.model,
        loader=parts.loader,
        optimizer=parts.optimizer,
        rates=parts.rates,
        loss_fn=loss_fn,
        clip_norm=config.train.clip_norm,
        shadow_every=config.growth.shadow_every,
    )
