"""An engine with three small sites, a catalogue with every tier, and a trainer that obeys its plans."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from contracts.blueprint import BlueprintTier
from contracts.config import GrowthConfig
from contracts.growth import Layout, Path, SeedFigures, SeedRecord, SiteInfo
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation, CommandType
from esper.karn.blueprints.identity import Identity
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.kasmina.engine import Engine
from esper.kasmina.guard import Guard
from esper.kasmina.plan import Fossilize, GraftPlan, Insert, Isolate, Pause, Remove, Resume, SetAlpha, Verdict
from esper.kasmina.stock import Stock
from tests import strategies

SITES = tuple(SiteInfo(name, Layout.SEQUENCE, (4, 9), 4, depth) for depth, name in enumerate("abc"))
AT_ONCE = Path(probation_epochs=0)


class Experimental(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP901", tier=BlueprintTier.EXPERIMENTAL)


class HighRisk(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP902", tier=BlueprintTier.HIGH_RISK)


class QuarantineOnly(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP903", quarantine_only=True)


TIERED = Catalogue((*CATALOGUE, Experimental(), HighRisk(), QuarantineOnly()))


@dataclass
class World:
    """Stands for the trainer: what is in the module tree, and how."""

    in_place: set[str] = field(default_factory=set)
    alpha: dict[str, float] = field(default_factory=dict)
    stage: dict[str, Stage] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def apply(self, plan: GraftPlan) -> None:
        for change in plan.changes:
            seed_id = change.record.seed_id
            self.stage[seed_id] = change.record.stage
            match change:
                case Insert():
                    assert seed_id not in self.in_place
                    self.in_place.add(seed_id)
                case Remove():
                    self.in_place.remove(seed_id)
                    self.paused.discard(seed_id)
                    self.alpha.pop(seed_id, None)
                case SetAlpha(alpha=alpha):
                    assert seed_id in self.in_place
                    self.alpha[seed_id] = alpha
                case Isolate():
                    assert seed_id in self.in_place
                    self.alpha.pop(seed_id, None)
                case Pause():
                    assert seed_id in self.in_place - self.paused
                    self.paused.add(seed_id)
                case Resume():
                    self.paused.remove(seed_id)
                case Fossilize():
                    assert seed_id not in self.paused
                    assert self.alpha[seed_id] == 1.0


@dataclass
class Rig:
    """One engine with a clock of epochs; `do` proposes, applies and commits."""

    config: GrowthConfig = field(
        default_factory=lambda: GrowthConfig(path=AT_ONCE, embargo_epochs=2, approved=("BP901",))
    )
    epoch: int = 0
    params: int = 338
    world: World = field(default_factory=World)
    commands: int = 0
    stock: Stock | None = None
    now_s: float = 0.0
    """What the guard's stopwatch reads."""

    def __post_init__(self) -> None:
        guard = Guard(self.config.guard, lambda: self.now_s)
        self.engine = Engine(SITES, self.config, TIERED, seed=0, stock=self.stock, guard=guard)

    def record(self, seed_id: str = "a#0") -> SeedRecord:
        return next(one for one in self.engine.records() if one.seed_id == seed_id)

    def healthy(self) -> dict[str, SeedFigures]:
        return {one.seed_id: strategies.healthy(one.seed_id) for one in self.engine.records()}

    def command(
        self,
        operation: SeedOperation,
        seed_id: str = "a#0",
        blueprint_id: str = "",
        parameters: Mapping[str, float] | None = None,
        **annotations: str,
    ) -> AdaptationCommand:
        self.commands += 1
        payload = CommandSeedOperation(operation, blueprint_id, dict(parameters or {}))
        return AdaptationCommand(
            command_id=f"command-{self.commands}",
            command_type=CommandType.SEED,
            issued_at=0,
            issued_by="operator",
            target_seed_id=seed_id,
            payload=payload,
            annotations=annotations,
        )

    def germinate(
        self, site: str = "a", blueprint_id: str = "BP003", seed_id: str = "", **changed: float | str
    ) -> AdaptationCommand:
        parameters = {"width": 2.0} if blueprint_id == "BP003" else {}
        parameters |= {name: value for name, value in changed.items() if isinstance(value, float)}
        annotations = {name: value for name, value in changed.items() if isinstance(value, str)}
        return self.command(
            SeedOperation.GERMINATE, seed_id, blueprint_id, parameters, **{"site": site, **annotations}
        )

    def pause(self) -> AdaptationCommand:
        self.commands += 1
        return AdaptationCommand(f"command-{self.commands}", CommandType.PAUSE, 0, "operator")

    def pausing(self, seed_id: str = "a#0", **annotations: str) -> AdaptationCommand:
        return replace(self.pause(), target_seed_id=seed_id, annotations=annotations)

    def terminating(self, seed_id: str = "a#0") -> AdaptationCommand:
        return self.command(SeedOperation.CULL, seed_id, terminate="true")

    def propose(
        self, command: AdaptationCommand, figures: Mapping[str, SeedFigures] | None = None, now_ns: int = 0
    ) -> Verdict:
        measured = self.healthy() if figures is None else figures
        return self.engine.propose(command, measured, self.epoch, now_ns, self.params)

    def do(self, command: AdaptationCommand, figures: Mapping[str, SeedFigures] | None = None) -> Verdict:
        verdict = self.propose(command, figures)
        self.take(verdict)
        return verdict

    def take(self, verdict: Verdict) -> None:
        """Apply and commit, as the trainer does."""
        self.world.apply(verdict.plan)
        for change in verdict.plan.changes:
            if isinstance(change, Insert):
                self.params += change.record.params
            if isinstance(change, Remove):
                self.params -= change.record.params
        self.engine.commit(verdict.plan.plan_id)

    def grown(self, operation: SeedOperation, **durations: float) -> SeedRecord:
        """The seed at site a, germinated and taken as far as `operation` leads."""
        assert self.do(self.germinate(**durations)).applied
        if operation is not SeedOperation.GERMINATE:
            verdict = self.do(self.command(operation))
            assert verdict.applied, verdict.refusal
        return self.record()
