"""Puts the parts of one drill's run together, and reads off them at the end what the judgement rests on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from contracts.config import Config
from contracts.growth import Candidate, SiteInfo
from contracts.kernels import KernelSpec, design_of
from esper.drill.benign import DRILL_CATALOGUE
from esper.drill.outcome import Facts
from esper.drill.policy import DrillPolicy, TrialDesk
from esper.drill.programme import ASKED_AT, PARAMS_MAX, TERMS, Drill, onset_passes
from esper.drill.rehearsal import Rehearsal, host_of, same_host
from esper.drill.report import Trial, TrialReport
from esper.drill.trial import Subject
from esper.karn.permission import DrillPermission
from esper.kasmina.draw import draw_of
from esper.kasmina.engine import Engine
from esper.kasmina.graft import Grafts
from esper.kasmina.sites import find_sites
from esper.report.record import Recorded
from esper.tamiyo.controller import Controller
from esper.tamiyo.observation import Observation
from esper.tolaria.results import FinalFigures
from esper.tolaria.task import Task
from esper.tolaria.trainer import Trainer

EXAMPLES = 2
"""Training examples in the probe pass that finds the sites."""
BATCHES = 8
"""Mini-batches that travel into quarantine."""


@dataclass(frozen=True)
class Control:
    """The run without a graft: its final host, its accuracy, and how much chance moves the accuracy."""

    host: dict[str, Tensor]
    accuracy: float | None
    noise: float


@dataclass(frozen=True)
class Staged:
    """One drill, ready to be performed."""

    drill: Drill
    run_id: str
    grafts: Grafts
    engine: Engine
    controller: Controller
    observation: Observation
    trainer: Trainer
    rehearsal: Rehearsal
    desk: TrialDesk
    trouble: list[Exception] = field(default_factory=list)
    """Why no trial could be held, if none could."""

    def facts(self, recorded: Recorded, final: FinalFigures | None, halted: str, control: Control) -> Facts:
        """What the run has left."""
        seed_id = self.rehearsal.seen.seed_id
        graft = recorded.grafts.get(seed_id)
        return Facts(
            finished=final is not None and not halted,
            halted=halted,
            same_as_control=same_host(host_of(self.grafts), control.host),
            in_the_model=seed_id in self.grafts.live_ids(),
            failed=tuple(one for one in recorded.failed if one.seed_id == seed_id),
            outcome=graft.outcome if graft is not None else "",
            accuracy=None if final is None else final.test_accuracy,
            accuracy_control=control.accuracy,
            noise=control.noise,
        )


def stage(drill: Drill, config: Config, task: Task, hold: Callable[[Trial, Subject], TrialReport]) -> Staged:
    """The run of `drill` on `task`; `hold` holds its trial in quarantine.

    Raises:
        SiteError: the configuration names no place where something can grow.
        BadData: the task's data can't be trained on.
        ValueError: the blueprint does not fit the site.
    """
    run_id = f"drill-{drill.blueprint_id}-{drill.onset}"
    sites = find_sites(task.model, config.growth.sites, task.train.inputs[:EXAMPLES], config.growth.layouts)
    grafts, permission, desk = Grafts(task.model, sites), DrillPermission(), TrialDesk()
    candidate = _candidate(drill, config, sites[0])
    policy = DrillPolicy(candidate, config.growth.path, ASKED_AT, desk)
    trainer = Trainer(task, grafts, config, run_id, counts_validation=False, build=DRILL_CATALOGUE.build)
    design = design_of(sites[0], drill.blueprint_id, candidate.parameters)
    trial = Trial(KernelSpec(design, draw_of(config.run.seed, f"{sites[0].name}#0")), sites[0].name, TERMS)
    trouble: list[Exception] = []

    def examine() -> TrialReport:
        try:
            return hold(trial, _subject(task, sites, config.train.batch_size))
        except Exception as error:
            trouble.append(error)
            raise

    return Staged(
        drill=drill,
        run_id=run_id,
        grafts=grafts,
        engine=Engine(
            sites,
            config.growth,
            DRILL_CATALOGUE,
            config.run.seed,
            permission=permission,
            guard=trainer.guard,
        ),
        controller=Controller(policy, run_id),
        observation=Observation(run_id, policy.version, config.tamiyo.window_epochs),
        trainer=trainer,
        rehearsal=Rehearsal(trainer, grafts, desk, permission, design, examine),
        desk=desk,
        trouble=trouble,
    )


def ungrown(config: Config, task: Task) -> tuple[Grafts, Trainer]:
    """The run that a drill is compared with: the same host and data, and nothing grows."""
    sites = find_sites(task.model, config.growth.sites, task.train.inputs[:EXAMPLES], config.growth.layouts)
    grafts = Grafts(task.model, sites)
    return grafts, Trainer(
        task, grafts, config, "control", counts_validation=False, build=DRILL_CATALOGUE.build
    )


def _candidate(drill: Drill, config: Config, site: SiteInfo) -> Candidate:
    blueprint = DRILL_CATALOGUE.get(drill.blueprint_id)
    settings = blueprint.fit(site, PARAMS_MAX)
    if settings is None:
        raise ValueError(f"{drill.blueprint_id} can't grow at {site.name} with {PARAMS_MAX} parameters")
    if drill.harmful:
        settings["onset"] = float(onset_passes(drill.onset, config))
    return Candidate(site.name, drill.blueprint_id, settings, blueprint.params(site, settings))


def _subject(task: Task, sites: tuple[SiteInfo, ...], batch_size: int) -> Subject:
    """The live host as it is, with the first mini-batches' worth of its training data."""
    train = task.train.first(BATCHES * batch_size)
    batches = zip(torch.split(train.inputs, batch_size), torch.split(train.targets, batch_size), strict=True)
    return Subject(task.model, sites, task.loss_fn, [(x.clone(), y.clone()) for x, y in batches])
