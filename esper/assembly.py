"""Puts the pure parts of one run together: sites, grafts, engine, policy, trainer."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from contracts.config import Config
from contracts.growth import SeedRecord, SiteInfo
from esper.errors import BadSetup
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.permit import builder
from esper.kasmina.engine import Engine
from esper.kasmina.graft import Grafts
from esper.kasmina.limits import burden_of
from esper.kasmina.sites import find_sites
from esper.kasmina.stock import Stock
from esper.report.words import gflop_above
from esper.tamiyo.caretaker import Caretaker
from esper.tamiyo.choice import make_policy
from esper.tamiyo.controller import Controller
from esper.tamiyo.foresight import forecast
from esper.tamiyo.observation import Observation
from esper.tamiyo.policy import Policy
from esper.tolaria.budget import FLOP_PER_GFLOP
from esper.tolaria.task import Task
from esper.tolaria.trainer import Trainer

EXAMPLES = 2
"""Training examples in the probe pass that finds the sites."""


@dataclass(frozen=True)
class Parts:
    """The thinking half of a run."""

    config: Config
    task: Task
    sites: tuple[SiteInfo, ...]
    grafts: Grafts
    stock: Stock
    engine: Engine
    policy: Policy
    controller: Controller
    observation: Observation
    policy_in_thread: bool
    """A policy that nobody here has measured may take its time; Esper's own take microseconds."""
    trainer: Trainer
    catalogue: Catalogue

    def build(self, record: SeedRecord) -> nn.Module:
        """A module like that of a seed which is read back; its weights are still to be loaded.

        Raises:
            UnknownBlueprint: the catalogue does not have the seed's blueprint.
        """
        site = next(site for site in self.sites if site.name == record.site)
        blueprint = self.catalogue.get(record.blueprint_id)
        return blueprint.build(site, record.parameters, torch.Generator().manual_seed(0))

    @property
    def model(self) -> nn.Module:
        return self.task.model


def assemble_parts(
    config: Config, task: Task, run_id: str, policy: Policy | None = None, catalogue: Catalogue = CATALOGUE
) -> Parts:
    """Attach growth to `task.model` and make what decides on it and what trains it.

    Raises:
        SiteError: a pattern of `config.growth.sites` names no place where something can grow.
        BadData: the task's data can't be trained on.
        BadSetup: the limit of parameters is below the host's own.
    """
    sites = find_sites(task.model, config.growth.sites, task.train.inputs[:EXAMPLES], config.growth.layouts)
    catalogue.get_ready(sites)
    grafts = Grafts(task.model, sites)
    _check_room(config, grafts)
    chosen = make_policy(config, catalogue) if policy is None else policy
    stock = Stock()
    trainer = Trainer(
        task,
        grafts,
        config,
        run_id,
        counts_validation=chosen.reads_validation,
        build=builder(catalogue, frozenset(config.growth.approved), lambda: stock.left_out),
    )
    return Parts(
        config=config,
        task=task,
        sites=sites,
        grafts=grafts,
        stock=stock,
        engine=Engine(
            sites,
            config.growth,
            catalogue,
            config.run.seed,
            stock,
            guard=trainer.guard,
            burden=burden_of(grafts, config),
        ),
        policy=chosen,
        controller=Controller(
            chosen,
            run_id,
            partial(forecast, chosen, catalogue, config.growth),
            config.budgets.epoch_boundary_ms,
            Caretaker(config.growth.gates),
        ),
        observation=Observation(run_id, chosen.version, config.tamiyo.window_epochs),
        policy_in_thread=policy is not None,
        trainer=trainer,
        catalogue=catalogue,
    )


def _check_room(config: Config, grafts: Grafts) -> None:
    """See that the host itself is within the limit of parameters.

    Raises:
        BadSetup: it is not.
    """
    most, host = config.growth.max_params, sum(p.numel() for _, p in grafts.host_named_parameters())
    if most is not None and most < host:
        raise BadSetup(
            f"growth.max_params {most} is below the host's own {host} parameters; give more than {host}, the "
            "host included"
        )


def check_length(parts: Parts) -> None:
    """See that the budget of a run that begins has room for a step.

    Raises:
        BadSetup: it has not.
    """
    gflop = parts.config.run.gflop
    if gflop is not None and round(gflop * FLOP_PER_GFLOP) < parts.trainer.shortest:
        least = gflop_above(parts.trainer.shortest)
        raise BadSetup(
            f"run.gflop {gflop:g} is less than the {least} GFLOP that one step takes; give at least that"
        )
