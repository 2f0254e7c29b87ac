"""A seed that can't be kept is taken out unasked; in a drill the first gate that refuses it does so too."""

import math

import pytest
from msgspec.structs import replace

from contracts.config import GrowthConfig
from contracts.growth import Path, SeedRecord
from contracts.kernels import design_of
from contracts.lifecycle import Gate, SeedOperation, Stage
from esper.karn.permission import DrillPermission
from esper.kasmina.engine import Engine
from esper.kasmina.plan import Remove
from tests.esper.kasmina.engine_world import SITES, TIERED, Rig

PATH = Path(training_epochs=2, blending_epochs=1, shadowing_epochs=1, probation_epochs=1)
NEXT = {
    Stage.GERMINATED: SeedOperation.START_TRAINING,
    Stage.TRAINING: SeedOperation.START_GRAFTING,
    Stage.BLENDING: SeedOperation.STABILIZE,
    Stage.SHADOWING: SeedOperation.EVALUATE,
    Stage.PROBATIONARY: SeedOperation.FOSSILIZE,
}
LINE = tuple(NEXT)
UNFIT = [
    ("finite", False),
    ("pure", False),
    ("grad_norm", 1e4),
    ("grad_norm", 1e-12),
    ("grad_norm", math.nan),
]


def at(stage: Stage, drill: bool) -> Rig:
    """A rig whose seed has come to `stage`."""
    rig = Rig(GrowthConfig(path=PATH, embargo_epochs=2))
    permission = DrillPermission()
    permission.admit(design_of(SITES[0], "BP003", {"width": 2.0}))
    rig.engine = Engine(SITES, rig.config, TIERED, seed=0, permission=permission)
    wishes = {"drill": "true"} if drill else {}
    assert rig.do(rig.germinate(**wishes)).applied
    for step in LINE[: LINE.index(stage)]:
        rig.epoch += 1
        verdict = rig.do(rig.command(NEXT[step]))
        assert verdict.applied, verdict.refusal
    rig.epoch += 1
    return rig


def removals(rig: Rig, **figures: float | bool) -> list[SeedRecord]:
    """Of the boundary, without any command."""
    found = rig.healthy() | {"a#0": replace(rig.healthy()["a#0"], **figures)}
    changes = rig.propose(rig.pause(), found).plan.changes
    assert all(
        change.rollback == change.record.rolled_back for change in changes if isinstance(change, Remove)
    )
    return [change.record for change in changes if isinstance(change, Remove)]


@pytest.mark.parametrize("value", [1e4, 1e-12, 0.0])
@pytest.mark.parametrize("stage", LINE)
def test_a_gradient_of_another_scale_is_no_reason_outside_of_a_drill(stage: Stage, value: float) -> None:
    assert removals(at(stage, drill=False), grad_norm=value) == []


@pytest.mark.parametrize(("figure", "value"), UNFIT)
@pytest.mark.parametrize("stage", LINE)
def test_it_goes_at_the_next_boundary_and_takes_the_host_back_if_that_has_run_with_it(
    stage: Stage, figure: str, value: float | bool
) -> None:
    rig = at(stage, drill=figure == "grad_norm" and math.isfinite(value))
    assert removals(rig) == []
    learns = stage is not Stage.GERMINATED
    found = removals(rig, **{figure: value})
    if figure == "grad_norm" and not learns:
        assert found == []
        return
    (record,) = found
    assert record.stage is Stage.CULLED
    assert record.rolled_back == (stage in (Stage.BLENDING, Stage.SHADOWING, Stage.PROBATIONARY))


@pytest.mark.parametrize("figure", ["finite", "pure", "grad_norm"])
def test_what_was_not_measured_takes_nothing_out(figure: str) -> None:
    assert removals(at(Stage.BLENDING, drill=False), **{figure: None}) == []  # type: ignore[arg-type]


REFUSED = [
    (Stage.GERMINATED, {"jump": 1.0}, Gate.G0_SANITY),
    (Stage.BLENDING, {"rms_ratio": 11.0}, Gate.G2_STABILITY),
    (Stage.SHADOWING, {"loss_with": 1.5}, Gate.G3_INTERFACE),
    (Stage.SHADOWING, {"starved_tensors": 1}, Gate.G3_INTERFACE),
    (Stage.PROBATIONARY, {"loss_with": 0.9999}, Gate.G4_SYSTEM_IMPACT),
]


@pytest.mark.parametrize(("stage", "figures", "gate"), REFUSED)
@pytest.mark.parametrize("drill", [False, True], ids=["normal", "drill"])
def test_a_gate_that_refuses_ends_a_drill_s_seed_and_no_other(
    stage: Stage, figures: dict[str, float], gate: Gate, drill: bool
) -> None:
    rig = at(stage, drill)
    found = rig.healthy() | {"a#0": replace(rig.healthy()["a#0"], **figures)}
    verdict = rig.do(rig.command(NEXT[stage]), found)
    assert not verdict.applied
    assert [one.gate for one in verdict.gates if not one.passed] == [gate]
    assert rig.record().stage is (Stage.CULLED if drill else stage)
    assert ("taken out" in verdict.refusal) == drill
    assert (rig.world.in_place == set()) == drill
    if drill:
        assert rig.record().rolled_back == (stage is not Stage.GERMINATED)


def test_a_drill_s_seed_that_is_asked_for_too_early_stays() -> None:
    rig = at(Stage.TRAINING, drill=True)
    verdict = rig.do(rig.command(SeedOperation.EVALUATE))
    assert not verdict.applied
    assert verdict.plan.changes == ()
    assert rig.record().stage is Stage.TRAINING
