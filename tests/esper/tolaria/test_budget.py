import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.config import RunConfig
from esper.tolaria.budget import Budget, Costs, budget_of
from esper.tolaria.loop import Pace

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
    conflict=st.integers(0, 100),
    conflict_every=st.integers(1, 5),
)
def test_the_steps_granted_never_overdraw_the_budget_and_one_more_would(
    flops: int, step: int, shadow: int, every: int, after: int, conflict: int, conflict_every: int
) -> None:
    costs = Costs(step, shadow, every, after, conflict, conflict_every)
    steps = Budget(epochs=None, flops=flops).steps(40, 0, 0, costs)
    assert steps == 0 or costs.of(steps) + after <= flops
    assert steps == 40 or costs.of(steps + 1) + after > flops


@given(st.integers(0, 200), st.integers(0, 60), st.integers(1, 7), st.integers(1, 7))
def test_an_epochs_cost_is_what_its_steps_take_wherever_it_begins_or_at_most_one_pass_of_each_more(
    first: int, steps: int, shadow_every: int, conflict_every: int
) -> None:
    costs = Costs(
        step=1_000, shadow=10, shadow_every=shadow_every, after=0, conflict=1, conflict_every=conflict_every
    )
    taken = sum(
        1_000 + 10 * (number % shadow_every == 0) + (number % conflict_every == 0)
        for number in range(first, first + steps)
    )
    assert taken <= costs.of(steps) <= taken + 11


def test_the_mean_step_has_its_share_of_the_passes_that_not_every_step_takes() -> None:
    costs = Costs(step=100, shadow=40, shadow_every=4, after=7, conflict=60, conflict_every=3)
    assert costs.mean_step == 130.0
    assert Budget(epochs=None, flops=1_300).pace(40, 5, 650, costs) == Pace(0.5, 0.1)
