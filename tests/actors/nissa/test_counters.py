"""Plain numbers, and histograms made of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.nissa.counters import BOUNDARY_BUCKETS_S, PART_BUCKETS_S, BoundaryCounters, Histogram, RunCounters
from contracts.budgets import PerformanceBudgets
from contracts.lifecycle import Gate, Stage


def test_a_bucket_holds_its_own_bound_and_what_is_above_goes_to_the_last() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1):
        histogram.record(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == pytest.approx(6.6)


@given(st.lists(st.floats(0, 10)), st.floats(0, 1))
def test_a_quantile_is_the_bound_of_the_bucket_that_holds_it(values: list[float], share: float) -> None:
    histogram = Histogram((1.0, 2.0, 5.0))
    for value in values:
        histogram.record(value)
    found = histogram.quantile(share)
    rank = math.ceil(share * len(values))
    if rank == 0:
        assert math.isnan(found)
    else:
        exact = sorted(values)[rank - 1]
        assert found == min(bound for bound in (1.0, 2.0, 5.0, math.inf) if exact <= bound)


@pytest.mark.parametrize("bounds", [(), (1.0, 1.0), (2.0, 1.0)])
def test_buckets_that_do_not_rise_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rise"):
        Histogram(bounds)


def test_the_budgets_of_a_boundary_are_bounds_of_its_buckets() -> None:
    budgets = PerformanceBudgets()
    assert budgets.epoch_boundary_ms / 1000 in BOUNDARY_BUCKETS_S
    parts = (budgets.systemstate_assembly_ms, budgets.tamiyo_inference_ms, budgets.adaptation_processing_ms)
    assert {ms / 1000 for ms in parts} <= set(PART_BUCKETS_S)
    assert {0.010, 0.012, 0.015, 0.018} <= set(BOUNDARY_BUCKETS_S) & set(PART_BUCKETS_S)


def test_a_boundary_above_its_budget_is_counted_and_one_at_it_is_not() -> None:
    boundary = BoundaryCounters(budget_s=0.018)
    boundary.record(0.001, 0.012, 0.001, 0.018)
    boundary.record(0.001, 0.012, 0.001, 0.0181)
    assert boundary.over_budget == 1
    assert boundary.duration.count == boundary.assemble.count == boundary.decide.count == 2


def test_a_misspelled_key_counts_nothing() -> None:
    growth = RunCounters().growth
    with pytest.raises(KeyError):
        growth.grafts["fossilised"] += 1
    with pytest.raises(KeyError):
        growth.gate(Gate.UNKNOWN, passed=True)
    assert set(growth.grafts.values()) == {0}
    assert "fossilised" not in growth.grafts


def test_seeds_are_counted_anew_each_time() -> None:
    growth = RunCounters().growth
    growth.stages([Stage.TRAINING, Stage.FOSSILIZED])
    growth.stages([Stage.FOSSILIZED, Stage.FOSSILIZED])
    assert growth.seeds[Stage.TRAINING] == 0
    assert growth.seeds[Stage.FOSSILIZED] == 2


def test_two_runs_share_no_number() -> None:
    one, other = RunCounters(), RunCounters()
    one.training.flops["probe"] += 5
    one.boundary.record(0.1, 0.1, 0.1, 0.3)
    assert other.training.flops["probe"] == 0
    assert other.boundary.duration.count == 0
