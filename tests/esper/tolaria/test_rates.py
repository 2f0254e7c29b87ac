import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.tolaria.rates import HOST, Rates, Schedule

SCHEDULE = Schedule(peak=0.01, decay_from=0.7, final_rate=0.02)


def optimizer(*names: str) -> torch.optim.Optimizer:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "name": name} for name in names]
    return torch.optim.SGD(groups, lr=0.01)


@pytest.mark.parametrize(
    ("progress", "rate"), [(0.0, 0.01), (0.7, 0.01), (0.85, 0.0051), (1.0, 0.0002), (1.5, 0.0002)]
)
def test_the_rate_is_constant_and_then_falls_linearly(progress: float, rate: float) -> None:
    assert SCHEDULE.at(progress) == pytest.approx(rate)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_rate_never_rises(first: float, second: float) -> None:
    early, late = sorted((first, second))
    assert SCHEDULE.at(late) <= SCHEDULE.at(early)


def test_a_schedule_that_never_decays_has_no_end_to_divide_by() -> None:
    assert Schedule(0.1, 1.0, 0.0).at(1.0) == 0.1
    assert Schedule(0.1, 1.0, 0.0).at(2.0) == 0.1


def test_a_seed_warms_up_linearly_to_its_own_multiple() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.admit("seed", multiplier=0.5, warmup_steps=4)
    seen = []
    for _ in range(6):
        rates.apply(0.0)
        seen.append(opt.param_groups[1]["lr"])
    assert seen == pytest.approx([0.00125, 0.0025, 0.00375, 0.005, 0.005, 0.005])
    assert opt.param_groups[0]["lr"] == 0.01


def test_a_dismissed_seed_follows_the_host() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.admit("seed", multiplier=0.5, warmup_steps=0)
    rates.apply(0.0)
    rates.dismiss("seed")
    rates.apply(0.0)
    assert opt.param_groups[1]["lr"] == 0.01
    assert rates.foreign_changes == 0


def test_a_rate_changed_by_someone_else_is_found_at_the_next_step_and_overwritten() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    rates.apply(0.0)
    opt.param_groups[0]["lr"] = 1.0
    rates.apply(0.0)
    assert rates.foreign_changes == 1
    assert opt.param_groups[0]["lr"] == 0.01
    rates.apply(0.8)
    assert rates.foreign_changes == 1


def test_a_restored_warm_up_goes_on_where_it_was() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.admit("seed", 1.0, warmup_steps=10)
    for _ in range(3):
        rates.apply(0.0)
    state = rates.state()
    rates.apply(0.0)
    expected = opt.param_groups[1]["lr"]
    rates.apply(0.0)
    rates.restore(state)
    rates.apply(0.0)
    assert opt.param_groups[1]["lr"] == expected
    assert rates.foreign_changes == 0
