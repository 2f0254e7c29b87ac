"""The shared yardsticks of the benchmarks."""

import math

import pytest

from bench.measure import Budget, in_turn, percentiles, ratio_of


def test_percentiles_of_a_hundred_values_are_the_nearest_ranks() -> None:
    found = percentiles([n / 1000 for n in range(1, 101)])
    assert (found.p50, found.p99, found.max, found.n) == (0.0505, 0.099, 0.1, 100)
    assert math.isclose(found.spread, 0.05)


def test_figures_carry_their_unit_in_their_names() -> None:
    assert percentiles([0.001]).figures("us") == {
        "p50_us": 1000.0,
        "p99_us": 1000.0,
        "max_us": 1000.0,
        "spread_us": 0.0,
        "n": 1,
    }


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentiles([])


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert ratio_of([1.0, 2.0, 9.0], [1.0, 1.0, 3.0]).median == 2.0


def test_a_comparison_runs_both_sides_equally_often_and_in_turn() -> None:
    calls: list[str] = []
    in_turn(lambda: calls.append("a"), lambda: calls.append("b"), rounds=4)
    assert calls == list("ababbaabba")


@pytest.mark.parametrize(("sense", "kept", "broken"), [("at_most", 1.5, 1.6), ("at_least", 1.5, 1.4)])
def test_a_budget_holds_up_to_its_limit_and_never_for_nan(sense: str, kept: float, broken: float) -> None:
    budget = Budget("tell.ratio", 1.5, sense)  # type: ignore[arg-type]
    assert budget.holds(kept)
    assert not budget.holds(broken)
    assert not budget.holds(math.nan)
