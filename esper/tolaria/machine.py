"""The parts of one training run, put together from a task and a configuration."""

from dataclasses import dataclass

from contracts.config import Config
from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationMonitor
from esper.tolaria.budget import budget_of
from esper.tolaria.costs import CostBook
from esper.tolaria.crew import crew_of
from esper.tolaria.flops import FlopLedger
from esper.tolaria.growth import Growth
from esper.tolaria.inspection import Inspection
from esper.tolaria.loader import Loader
from esper.tolaria.loop import Crew, StepLoop
from esper.tolaria.optimizer import make_optimizer
from esper.tolaria.purse import Purse
from esper.tolaria.randomness import Stream, generator_for
from esper.tolaria.rates import Rates, Schedule
from esper.tolaria.safepoint import SafePoint
from esper.tolaria.snapshot import Parts
from esper.tolaria.task import Task, Tensors


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
    validation: Tensors
    """What is looked at after each epoch."""

    def crew(self) -> Crew:
        """Who takes part in the next epoch's steps."""
        parts = self.parts
        return crew_of(
            parts.grafts, parts.growth, self.task.loss_fn, self.costs, parts.ledger, self.isolation
        )


def build_machine(task: Task, grafts: Grafts, config: Config, *, counts_validation: bool) -> Machine:
    """Put the parts together.

    Raises:
        ValueError: the configuration states no length, or two.
    """
    parts = _parts(task, grafts, config, FlopLedger(counts_validation=counts_validation))
    isolation = IsolationMonitor(grafts)
    safe_point = SafePoint(grafts, parts.optimizer, parts.rates, parts.growth, isolation, config.train)
    batch = parts.loader.example()
    costs = CostBook(grafts.model, batch, task.loss_fn, parts.ledger)
    validation = task.validation.first(config.train.validation_examples)
    return Machine(
        task=task,
        config=config,
        parts=parts,
        safe_point=safe_point,
        costs=costs,
        purse=Purse(
            budget_of(config.run), costs, parts.ledger, parts.growth, safe_point, config, len(validation)
        ),
        loop=_loop(task, config, parts),
        inspection=Inspection(grafts, task, batch, validation, config.growth, costs, parts.ledger, isolation),
        isolation=isolation,
        validation=validation,
    )


def _parts(task: Task, grafts: Grafts, config: Config, ledger: FlopLedger) -> Parts:
    train, seed = config.train, config.run.seed
    optimizer = make_optimizer(grafts.host_named_parameters(), train.learning_rate)
    return Parts(
        grafts=grafts,
        optimizer=optimizer,
        rates=Rates(optimizer, Schedule(train.learning_rate, train.decay_from, train.final_rate)),
        loader=Loader(task.train, train.batch_size, generator_for(seed, "batches")),
        growth=Growth(grafts.sites, config.growth.max_per_site, seed),
        ledger=ledger,
        stream=Stream(seed, "training"),
    )


def _loop(task: Task, config: Config, parts: Parts) -> StepLoop:
    return StepLoop(
        model=parts.grafts.model,
        loader=parts.loader,
        optimizer=parts.optimizer,
        rates=parts.rates,
        loss_fn=task.loss_fn,
        clip_norm=config.train.clip_norm,
        shadow_every=config.growth.shadow_every,
    )
