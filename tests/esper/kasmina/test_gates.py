"""A gate passes on measured figures within stated bounds, and on nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.config import GateConfig
from contracts.growth import SeedFigures, SeedRecord
from contracts.lifecycle import Gate, Stage
from esper.kasmina.gates import judge
from tests import strategies

CONFIG = GateConfig()
RECORD = SeedRecord("layers.0#0", "layers.0", Stage.PROBATIONARY, params=300)
HEALTHY = strategies.healthy(RECORD.seed_id)
GATES = [gate for gate in Gate if gate is not Gate.UNKNOWN]
NEEDS = {
    Gate.G0_SANITY: ("finite", "shape_kept", "jump"),
    Gate.G1_GRADIENT_HEALTH: ("finite", "grad_norm"),
    Gate.G2_STABILITY: ("finite", "rms_ratio"),
    Gate.G3_INTERFACE: ("loss_with", "loss_without", "starved_tensors"),
    Gate.G4_SYSTEM_IMPACT: ("loss_with", "loss_without"),
    Gate.G5_RESET: ("cleared",),
}
BAD = [
    (Gate.G0_SANITY, "finite", False),
    (Gate.G0_SANITY, "shape_kept", False),
    (Gate.G0_SANITY, "jump", 2 * CONFIG.jump_max),
    (Gate.G0_SANITY, "jump", math.nan),
    (Gate.G1_GRADIENT_HEALTH, "finite", False),
    (Gate.G1_GRADIENT_HEALTH, "grad_norm", 0.0),
    (Gate.G1_GRADIENT_HEALTH, "grad_norm", math.inf),
    (Gate.G1_GRADIENT_HEALTH, "grad_norm", math.nan),
    (Gate.G1_GRADIENT_HEALTH, "isolation_violations", 3),
    (Gate.G2_STABILITY, "finite", False),
    (Gate.G2_STABILITY, "rms_ratio", 11.0),
    (Gate.G2_STABILITY, "rms_ratio", math.nan),
    (Gate.G3_INTERFACE, "loss_with", 1.03),
    (Gate.G3_INTERFACE, "loss_with", math.nan),
    (Gate.G3_INTERFACE, "loss_without", math.nan),
    (Gate.G3_INTERFACE, "starved_tensors", 1),
    (Gate.G3_INTERFACE, "isolation_violations", 3),
    (Gate.G4_SYSTEM_IMPACT, "loss_with", 0.999),
    (Gate.G4_SYSTEM_IMPACT, "loss_with", math.nan),
    (Gate.G4_SYSTEM_IMPACT, "loss_without", math.nan),
    (Gate.G5_RESET, "cleared", False),
]


@pytest.mark.parametrize("gate", GATES)
def test_a_healthy_seed_passes_and_the_verdict_carries_its_figures(gate: Gate) -> None:
    verdict = judge(gate, RECORD, HEALTHY, CONFIG)
    assert verdict.gate is gate
    assert verdict.passed
    assert verdict.figures


@pytest.mark.parametrize(
    ("gate", "figure"), [(gate, name) for gate, names in NEEDS.items() for name in names]
)
def test_what_was_not_measured_does_not_pass_and_says_so(gate: Gate, figure: str) -> None:
    verdict = judge(gate, RECORD, replace(HEALTHY, **{figure: None}), CONFIG)
    assert not verdict.passed
    assert "was not measured" in verdict.reason


@pytest.mark.parametrize(("gate", "figure", "value"), BAD)
def test_a_figure_out_of_bounds_does_not_pass(gate: Gate, figure: str, value: float) -> None:
    verdict = judge(gate, RECORD, replace(HEALTHY, **{figure: value}), CONFIG)
    assert not verdict.passed
    assert "has to be" in verdict.reason


def test_a_refusal_names_every_figure_that_failed_with_its_bounds() -> None:
    figures = replace(HEALTHY, finite=None, grad_norm=2000.0)
    verdict = judge(Gate.G1_GRADIENT_HEALTH, RECORD, figures, CONFIG)
    assert verdict.reason == (
        "finite was not measured; grad_norm is 2000, has to be at least 1e-09 and at most 1000"
    )
    assert verdict.figures["grad_norm"] == 2000
    assert verdict.figures["grad_norm_max"] == CONFIG.grad_norm_max


def test_g4_judges_the_counterfactual_whatever_the_loss_itself_did() -> None:
    for level in (0.01, 1.0, 100.0):
        better = replace(HEALTHY, loss_without=level, loss_with=0.99 * level)
        same = replace(HEALTHY, loss_without=level, loss_with=level)
        assert judge(Gate.G4_SYSTEM_IMPACT, RECORD, better, CONFIG).passed
        assert not judge(Gate.G4_SYSTEM_IMPACT, RECORD, same, CONFIG).passed


def test_g4_asks_a_larger_seed_for_more_where_rent_is_due() -> None:
    figures = replace(HEALTHY, loss_with=0.99)
    config = GateConfig(gain_min=0.0, rent=0.02)
    assert judge(Gate.G4_SYSTEM_IMPACT, replace(RECORD, params=400), figures, config).passed
    assert not judge(Gate.G4_SYSTEM_IMPACT, replace(RECORD, params=600), figures, config).passed


@given(strategies.figures(RECORD.seed_id), st.sampled_from(GATES))
def test_whatever_passes_was_measured_and_finite(figures: SeedFigures, gate: Gate) -> None:
    if judge(gate, RECORD, figures, CONFIG).passed:
        values = [getattr(figures, name) for name in NEEDS[gate]]
        assert all(value is not None and math.isfinite(value) for value in values)


def test_another_seed_s_figures_or_a_gate_that_is_none_are_an_error() -> None:
    with pytest.raises(ValueError, match="figures of other#0 say nothing about layers"):
        judge(Gate.G0_SANITY, RECORD, replace(HEALTHY, seed_id="other#0"), CONFIG)
    with pytest.raises(ValueError, match="judges nothing"):
        judge(Gate.UNKNOWN, RECORD, HEALTHY, CONFIG)
