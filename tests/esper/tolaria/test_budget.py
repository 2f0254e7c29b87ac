import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.config import RunConfig
from esper.tolaria.budget import Budget, Costs, budget_of

CHEAP = Costs(step=10, shadow=0, shadow_every=4, after=0)


@pytest.mark.parametrize("run", [RunConfig(), RunConfig(epochs=3, gflop=1.0)])
def test_a_run_states_exactly_one_length(run: RunConfig) -> None:
    with pytest.raises(ValueError, match="set one of them"):
        budget_of(run)


def test_gflop_are_counted_in_flops() -> None:
    assert budget_of(RunConfig(gflop=1.5)).flops == 1_500_000_000


def test_a_run_in_epochs_takes_all_its_steps_in_each_of_them() -> None:
    budget = Budget(epochs=2, flops=None)
    assert [budget.steps(40, epoch, 10**12, CHEAP) for epoch in range(3)] == [40, 40, 0]
    assert budget.pace(40, 1, 0, CHEAP).start == 0.5
    assert budget.pace(40, 0, 0, CHEAP).per_step == 1 / 80


def test_the_last_epoch_in_flops_is_as_long_as_the_budget_lasts() -> None:
    budget = Budget(epochs=None, flops=1_000)
    assert budget.steps(40, 0, 0, CHEAP) == 40
    assert budget.steps(40, 5, 875, CHEAP) == 12
    assert budget.steps(40, 5, 991, CHEAP) == 0
    assert budget.progress(0, 875) == 0.875


@given(
    flops=st.integers(0, 2_000),
    step=st.integers(1, 50),
    shadow=st.integers(0, 50),
    every=st.integers(1, 5),
    after=st.integers(0, 200),
)
def test_the_steps_granted_never_overdraw_the_budget_and_one_more_would(
    flops: int, step: int, shadow: int, every: int, after: int
) -> None:
    costs = Costs(step, shadow, every, after)
    steps = Budget(epochs=None, flops=flops).steps(40, 0, 0, costs)
    assert steps == 0 or costs.of(steps) + after <= flops
    assert steps == 40 or costs.of(steps + 1) + after > flops
