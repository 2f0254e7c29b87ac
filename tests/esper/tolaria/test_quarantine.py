"""A seed that touches the host from its isolation, from the first leak to its end."""

import weakref
from dataclasses import replace

import msgspec
import torch
from torch import Tensor, nn

from contracts.config import GrowthConfig
from contracts.growth import Path
from contracts.lifecycle import Gate, SeedOperation, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation, CommandType
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.engine import Engine
from esper.kasmina.plan import GraftPlan, Insert, Remove, Verdict
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.world import SITES, config, trainer

GROWTH = GrowthConfig(shadow_every=3, embargo_epochs=4, path=Path(training_epochs=9))  # two passes an epoch


class Leak(nn.Module):
    """Contributes 0 at first, and writes into the host whenever it learns."""

    def __init__(self, host: nn.Linear) -> None:
        super().__init__()
        self.host = weakref.ref(host)  # a seed that held the host itself would not be grafted
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        host = self.host()
        if torch.is_grad_enabled() and host is not None:
            host.weight.detach().add_(1e-3)
        return h * self.scale


def asking(operation: SeedOperation | None = None, epoch: int = 0) -> AdaptationCommand:
    if operation is None:
        return AdaptationCommand(f"pause {epoch}", CommandType.PAUSE, 0, "operator")
    germinates = operation is SeedOperation.GERMINATE
    blueprint_id, settings = ("BP003", {"width": 2.0}) if germinates else ("", {})
    return AdaptationCommand(
        command_id=operation.name,
        command_type=CommandType.SEED,
        issued_at=0,
        issued_by="operator",
        target_seed_id="one#0",
        payload=CommandSeedOperation(operation, blueprint_id, settings),
        annotations={"site": "one"} if germinates else {},
    )


def boundary(one: Trainer, engine: Engine, operation: SeedOperation | None = None) -> Verdict:
    """An epoch and its boundary; whatever is inserted is a leak."""
    one.run_epoch()
    facts = one.assemble()
    epoch = facts.growth.epoch
    verdict = engine.propose(asking(operation, epoch), facts.figures, epoch, 0, one.params)
    leak = Leak(one._grafts.model.get_submodule("enter"))  # type: ignore[arg-type]
    changes = (replace(c, module=leak) if isinstance(c, Insert) else c for c in verdict.plan.changes)
    one.apply(GraftPlan(verdict.plan.plan_id, tuple(changes)))
    engine.commit(verdict.plan.plan_id)
    return verdict


def leaking(growth: GrowthConfig = GROWTH) -> tuple[Trainer, Engine]:
    one, engine = trainer(config(growth=growth)), Engine(SITES, growth, CATALOGUE, 0)
    for operation in (SeedOperation.GERMINATE, SeedOperation.START_TRAINING):
        verdict = boundary(one, engine, operation)
        assert verdict.applied, verdict.refusal
    return one, engine


def test_a_leaking_seed_is_taken_out_at_the_boundary_after_its_third_violation() -> None:
    one, engine = leaking()
    held: list[tuple[int, bool]] = []
    while "one#0" in one._grafts.seed_ids():
        verdict = boundary(one, engine)
        violations = one.assemble().figures["one#0"].isolation_violations
        held.append((violations, any(isinstance(change, Remove) for change in verdict.plan.changes)))
    assert [removed for _, removed in held] == [violations > 2 for violations, _ in held]
    (record,) = (one for one in engine.records() if one.seed_id == "one#0")
    epoch = one.assemble().growth.epoch
    assert (record.stage, record.stage_epoch, record.rests_until) == (Stage.CULLED, epoch, epoch + 4)
    (gate,) = verdict.gates
    assert (gate.gate, gate.passed, gate.seed_id) == (Gate.G1_GRADIENT_HEALTH, False, "one#0")
    assert "isolation_violations is" in gate.reason
    assert gate.figures["isolation_violations"] == held[-1][0]


def test_what_was_counted_of_a_seed_that_is_gone_is_forgotten() -> None:
    one, engine = leaking()
    while "one#0" in one._grafts.seed_ids():
        boundary(one, engine)
    assert one.isolation.violations("one#0") == 0
    for _ in range(8):
        boundary(one, engine)
    assert "one#1" in {record.seed_id for record in engine.records()}


def test_with_more_violations_allowed_it_stays() -> None:
    gates = msgspec.structs.replace(GROWTH.gates, isolation_violations_max=100)
    one, engine = leaking(msgspec.structs.replace(GROWTH, gates=gates))
    for _ in range(4):
        assert boundary(one, engine).plan.changes == ()
    assert one.isolation.violations("one#0") > 2


class Holder(nn.Module):
    """Holds a layer of the host's."""

    def __init__(self, host: nn.Module) -> None:
        super().__init__()
        self.known = [host]

    def forward(self, h: Tensor) -> Tensor:
        return 0.0 * h


def test_a_module_that_is_refused_at_the_graft_costs_its_site_a_rest_and_nothing_else() -> None:
    one, engine, alone = trainer(config(growth=GROWTH)), Engine(SITES, GROWTH, CATALOGUE, 0), trainer()
    stages = []
    for epoch in range(1, 10):
        assert one.run_epoch().train_loss == alone.run_epoch().train_loss
        facts = one.assemble()
        asked = asking(SeedOperation.GERMINATE if epoch == 1 else None, epoch)
        verdict = engine.propose(asked, facts.figures, epoch, 0, one.params)
        held = Holder(one._grafts.model.get_submodule("middle"))
        changes = (replace(c, module=held) if isinstance(c, Insert) else c for c in verdict.plan.changes)
        one.apply(GraftPlan(verdict.plan.plan_id, tuple(changes)))
        engine.commit(verdict.plan.plan_id)
        stages.append(next(record.stage for record in engine.records() if record.site == "one"))
    assert [*dict.fromkeys(stages)] == [
        Stage.GERMINATED,
        Stage.CULLED,
        Stage.EMBARGOED,
        Stage.RESETTING,
        Stage.DORMANT,
    ]
