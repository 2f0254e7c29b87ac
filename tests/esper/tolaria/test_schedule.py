import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from esper.tolaria.schedule import Cosine, Cycled, Linear, OneCycle, Schedule

LINEAR = Linear(peak=0.01, decay_from=0.7, final_rate=0.02)
SHARES = st.floats(0, 1)


def rate(schedule: Schedule, progress: float) -> float:
    found = schedule.at(progress)["lr"]
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.01), (0.7, 0.01), (0.85, 0.0051), (1.0, 0.0002), (1.5, 0.0002)]
)
def test_a_linear_rate_is_constant_and_then_falls_linearly(progress: float, expected: float) -> None:
    assert rate(LINEAR, progress) == pytest.approx(expected)


def test_a_schedule_that_never_decays_has_no_end_to_divide_by() -> None:
    assert rate(Linear(0.1, 1.0, 0.0), 1.0) == 0.1
    assert rate(Linear(0.1, 1.0, 0.0), 2.0) == 0.1


@given(SHARES, SHARES, SHARES, SHARES)
def test_linear_and_cosine_never_rise(first: float, second: float, decay_from: float, final: float) -> None:
    early, late = sorted((first, second))
    for schedule in (Linear(0.1, decay_from, final), Cosine(0.1, final)):
        assert rate(schedule, late) <= rate(schedule, early) + 1e-15


@given(SHARES, SHARES, SHARES, st.floats(0, 3))
def test_every_schedule_stays_between_its_ends_and_past_its_end(
    split: float, start: float, final: float, progress: float
) -> None:
    cycled = Cycled("momentum", 0.8, 0.95)
    for schedule in (
        Linear(0.1, split, final),
        Cosine(0.1, final),
        OneCycle(0.1, split, start, final, cycled),
    ):
        lowest = 0.1 * min(start, final) if isinstance(schedule, OneCycle) else 0.1 * final
        assert lowest - 1e-12 <= rate(schedule, progress) <= 0.1 + 1e-12
        if progress >= 1.0:
            assert schedule.at(progress) == schedule.at(1.0)
    momentum = OneCycle(0.1, split, start, final, cycled).at(progress)["momentum"]
    assert isinstance(momentum, float)
    assert 0.8 - 1e-12 <= momentum <= 0.95 + 1e-12


def test_a_cosine_is_torchs_over_as_many_steps_as_the_budget_has() -> None:
    steps, optimizer = 50, torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = CosineAnnealingLR(optimizer, T_max=steps, eta_min=0.1 * 0.02)
    for step in range(steps + 1):
        assert rate(Cosine(0.1, 0.02), step / steps) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-9
        )
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_one_cycle_is_torchs_in_the_limit_of_many_steps(kind: str) -> None:
    steps, parameters = 4_000, [torch.zeros(1, requires_grad=True)]
    optimizer = torch.optim.SGD(parameters, momentum=0.9) if kind == "sgd" else torch.optim.Adam(parameters)
    theirs = OneCycleLR(optimizer, 0.1, total_steps=steps, pct_start=0.3, div_factor=25, final_div_factor=2)
    name = "momentum" if kind == "sgd" else "betas"
    cycled = Cycled("momentum", 0.85, 0.95) if kind == "sgd" else Cycled("betas", 0.85, 0.95, (0.999,))
    ours = OneCycle(0.1, 0.3, 1 / 25, 1 / 50, cycled)
    for step in range(steps):
        group, found = optimizer.param_groups[0], ours.at(step / steps)
        assert found["lr"] == pytest.approx(group["lr"], abs=0.1 * 3 / steps)
        assert found[name] == pytest.approx(group[name], abs=3 / steps)
        if step + 1 < steps:
            optimizer.step()
            theirs.step()


def test_one_cycle_rises_to_its_peak_falls_to_its_end_and_moves_momentum_the_other_way() -> None:
    schedule = OneCycle(0.1, 0.3, 0.04, 0.02, Cycled("betas", 0.85, 0.95, (0.999,)))
    assert schedule.at(0.0) == {"lr": pytest.approx(0.004), "betas": (pytest.approx(0.95), 0.999)}
    assert schedule.at(0.3) == {"lr": pytest.approx(0.1), "betas": (pytest.approx(0.85), 0.999)}
    assert schedule.at(1.0) == {"lr": pytest.approx(0.002), "betas": (pytest.approx(0.95), 0.999)}
    assert schedule.at(0.1)["lr"] == pytest.approx(0.004 + 0.096 * (1 - math.cos(math.pi / 3)) / 2)


@pytest.mark.parametrize("rise_until", [0.0, 1.0])
def test_one_cycle_may_begin_at_its_peak_or_never_fall(rise_until: float) -> None:
    schedule = OneCycle(0.1, rise_until, 0.5, 0.5)
    assert rate(schedule, 0.0) == pytest.approx(0.1 if rise_until == 0.0 else 0.05)
    assert rate(schedule, 0.5) == pytest.approx(0.075)
    assert rate(schedule, 0.999) == pytest.approx(0.05 if rise_until == 0.0 else 0.1, rel=1e-3)


def test_a_schedule_by_progress_has_no_state_and_reads_no_validation() -> None:
    for schedule in (LINEAR, Cosine(0.1, 0.0), OneCycle(0.1, 0.3, 0.1, 0.0)):
        before = schedule.at(0.4)
        schedule.step_taken()
        schedule.epoch_over(1.0)
        schedule.restore(schedule.state())
        assert schedule.at(0.4) == before
        assert schedule.state() == {}
        assert not schedule.reads_validation
