"""Whole runs without actors, on the hosts of `tests.hosts`: trainer, engine, controller and windows in turn.

run = Run.new(HOSTS[0])
while not run.finished:
    run.turn()              # apply, probe, epoch, keep, decide: as a run with actors does it
other = resumed(run.kept[3], HOSTS[0])
"""

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import msgspec
import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from contracts.config import (
    Config,
    GateConfig,
    GrowthConfig,
    GuardConfig,
    HeuristicConfig,
    RunConfig,
    TamiyoConfig,
    TrainConfig,
)
from contracts.control import Decided
from contracts.growth import Candidate, GrowthView, Path, ProbePlan, SiteInfo
from contracts.lifecycle import Stage
from contracts.messages import SystemState
from esper.karn.blueprints.identity import Identity
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.kasmina.engine import Engine, EngineState
from esper.kasmina.graft import Grafts
from esper.kasmina.plan import GraftPlan
from esper.kasmina.sites import find_sites
from esper.tamiyo.action import Action, Cull, Germinate, Wait
from esper.tamiyo.choice import make_policy
from esper.tamiyo.controller import Controller, ControllerMemory
from esper.tamiyo.observation import Observation, ObservationMemory
from esper.tamiyo.passage import due
from esper.tamiyo.policy import Policy
from esper.tolaria.record import from_record, to_record
from esper.tolaria.results import EpochResult
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.task import LossFn, Task, Tensors
from esper.tolaria.trainer import Timekeeping, Trainer
from tests import hosts
from tests.hosts import Host

PATH = Path(training_epochs=1, blending_epochs=2, shadowing_epochs=1, probation_epochs=1)
"""Through every stage."""
SHORT = Path(blending_epochs=1, probation_epochs=1)
LENIENT = GateConfig(rms_ratio_max=1e6, interface_loss_ratio_max=1e6, gain_min=0.0, grad_norm_min=0.0)
EPOCHS = 15


class Restless(Identity):
    """A seed with a normalisation and dropout: buffers, and a random stream that it draws from."""

    descriptor = msgspec.structs.replace(Identity.descriptor, blueprint_id="BP900")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return hosts.seed_module(site, 3, seed=int(torch.randint(1 << 30, (), generator=generator)))

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return sum(parameter.numel() for parameter in hosts.seed_module(site, 3).parameters())


WITH_RESTLESS = Catalogue((*CATALOGUE, Restless()))


class Eager:
    """Grows a seed at each of two sites: one joins the host, the other is culled at last, with a rollback.

    It decides by the view alone, and so it has nothing to remember.
    """

    name = version = "eager"
    reads_validation = False

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        for number, (site, path) in enumerate(zip(view.sites, (SHORT, PATH), strict=True)):
            if site.free and view.epoch > number and not site.fossils:
                return Germinate(Candidate(site.site.name, "BP900"), path)
        second = view.sites[1].seed
        if second is not None and second.record.stage is Stage.PROBATIONARY:
            return Cull(second.record.seed_id, rollback=True, reason="to see it go")
        return due(view) or Wait()


def config(policy: str = "none", epochs: int = EPOCHS, **train: object) -> Config:
    return Config(
        run=msgspec.convert({"policy": policy, "epochs": epochs, "seed": 5}, RunConfig),
        train=msgspec.convert({"batch_size": 10, "epoch_steps": 4, "clip_norm": 5.0, **train}, TrainConfig),
        growth=GrowthConfig(
            max_params=2_000,
            max_active=2,
            shadow_every=2,
            embargo_epochs=1,
            counterfactual_every=1,
            max_stage=3,
            path=PATH,
            gates=LENIENT,
            guard=GuardConfig(graft_ms=0.0, change_ms=0.0, rollback_ms=0.0),
        ),
        tamiyo=TamiyoConfig(
            heuristic=HeuristicConfig(race_at=0.1, kind_shares=(0.5, 0.3), site_share=0.3, latest=0.9)
        ),
    )


@cache
def _data(name: str) -> tuple[Tensors, Tensors, Tensors]:
    host = next(one for one in hosts.HOSTS if one.name == name)
    train = Tensors(*host.batch(75, 1))
    return train, train.first(40), Tensors(*host.batch(20, 3))  # what is learned is a gain: seeds stay


def task_of(host: Host, loss_fn: LossFn | None = None) -> Task:
    train, validation, test = _data(host.name)
    return Task(host.model(), train, validation, test, loss_fn or hosts.loss_fn)


@dataclass(frozen=True)
class Kept:
    """What a run goes on from, both halves."""

    snapshot: Snapshot
    controller: ControllerMemory
    engine: EngineState
    windows: ObservationMemory


@dataclass
class Run:
    """One run; `told` is all that it said of each epoch, `kept` what was copied after each."""

    trainer: Trainer
    engine: Engine
    controller: Controller
    observation: Observation
    sites: tuple[SiteInfo, ...]
    plan: GraftPlan | None = None
    probe: ProbePlan | None = None
    told: list[object] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    @classmethod
    def new(
        cls,
        host: Host,
        settings: Config | None = None,
        loss_fn: LossFn | None = None,
        prepare: Callable[[Task], Task] = lambda task: task,
    ) -> "Run":
        """All parts made as a new process makes them."""
        settings = settings or config()
        task = prepare(task_of(host, loss_fn))
        sites = find_sites(task.model, host.sites, task.train.inputs[:2])
        grafts = Grafts(task.model, sites)
        named = settings.run.policy
        policy: Policy = Eager() if named == "none" else make_policy(settings, CATALOGUE)
        catalogue = WITH_RESTLESS
        trainer = Trainer(
            task,
            grafts,
            settings,
            "run",
            counts_validation=policy.reads_validation,
            build=catalogue.build,
            timekeeping=Timekeeping(wall_ns=lambda: 1_000, seconds=lambda: 0.0),
        )
        return cls(
            trainer,
            Engine(sites, settings.growth, catalogue, settings.run.seed),
            Controller(policy, "run"),
            Observation("run", policy.version, 3),
            sites,
        )

    @property
    def finished(self) -> bool:
        return self.trainer.finished

    def turn(self) -> EpochResult:
        """Apply the plan, probe, train an epoch, keep, and decide on the next."""
        if self.plan is not None:
            self.trainer.apply(self.plan)
        if self.probe is not None:
            self.told.append(self.trainer.probe(self.probe))
        result = self.trainer.run_epoch()
        self.kept.append(self.keep())
        self.decide(result)
        return result

    def keep(self) -> Kept:
        return Kept(
            self.trainer.keep(),
            self.controller.remember(),
            self.engine.state(),
            self.observation.remember(),
        )

    def decide(self, result: EpochResult) -> None:
        """Everything of a boundary that is on the loop's side."""
        facts = self.trainer.assemble()
        command = self.controller.decide(facts.state, facts.growth, 1_000)
        growth = facts.growth
        verdict = self.engine.propose(command, facts.figures, growth.epoch, 1_000, growth.params)
        self.engine.commit(verdict.plan.plan_id)
        self.plan = verdict.plan
        decided = Decided(command, facts.state, growth, verdict.applied, verdict.refusal)
        reports = self.observation.watch(decided, 1_000)
        self.probe = self.controller.survey(facts.state, growth)
        self.told.append((result, facts, command, verdict.applied, verdict.refusal, verdict.gates, reports))

    def finish(self) -> "Run":
        while not self.finished:
            self.turn()
        return self

    def go_back(self, kept: Kept, *, behind_break: bool = False) -> None:
        """In the order of a rollback; then as if the epoch had just ended."""
        self.controller.recall(kept.controller)
        self.observation.recall(kept.windows)
        self.engine.restore(kept.engine)
        result = self.trainer.restore(kept.snapshot, behind_break=behind_break)
        assert result is not None
        self.decide(result)

    def stages(self) -> dict[str, Stage]:
        return {one.seed_id: one.stage for one in self.engine.records()}


@cache
def finished(host: Host, policy: str = "none") -> Run:
    """A whole run that nothing interrupted; not to be changed."""
    return Run.new(host, config(policy)).finish()


def through_disk(run: Run, snapshot: Snapshot) -> Snapshot:
    """The snapshot as another process would read it."""
    record, tensors = to_record(snapshot)
    return from_record(bytes(record), load(save(tensors)), run.trainer.rebuild)


def resumed(
    kept: Kept,
    host: Host,
    settings: Config | None = None,
    prepare: Callable[[Task], Task] = lambda task: task,
) -> Run:
    """A new process that goes on from what was kept, on disk."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    run = Run.new(host, settings, prepare=prepare)
    snapshot = through_disk(run, kept.snapshot)
    memories = (kept.controller, kept.windows, kept.engine)
    controller, windows, engine = (
        msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=type(one)) for one in memories
    )
    run.go_back(Kept(snapshot, controller, engine, windows))
    return run


def same_value(one: object, other: object) -> bool:
    """Whether two values are the same in type and in every bit, NaN included; modules are left aside."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and one.contiguous().flatten().view(
            torch.uint8
        ).equal(other.contiguous().flatten().view(torch.uint8))
    if isinstance(one, nn.Module):
        return isinstance(other, nn.Module)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(same_value(one[key], other[key]) for key in one)
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return np.float64(one).tobytes() == np.float64(other).tobytes()  # type: ignore[arg-type]
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)  # type: ignore[attr-defined]
    if isinstance(one, tuple | list):
        assert isinstance(other, tuple | list)
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, msgspec.Struct):
        names = one.__struct_fields__
        return all(same_value(getattr(one, name), getattr(other, name)) for name in names)
    if hasattr(one, "__dict__") and not isinstance(one, type):
        return same_value(dict(vars(one)), dict(vars(other)))
    return bool(one == other)


def same_snapshot(one: Snapshot, other: Snapshot, *, spent: bool = True) -> bool:
    """Bit for bit; with `spent` false the accounts may differ, as they do after a rollback."""
    left, right = copy.copy(vars(one)), copy.copy(vars(other))
    if not spent:
        left["accounts"] = right["accounts"] = None
    return same_value(left, right)


def tensors_of(run: Run) -> dict[str, Tensor]:
    return dict(run.trainer.keep().network.tensors)
