"""The interval of a median."""

import random
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.interval import median_interval


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_the_interval_holds_the_median_and_is_made_of_the_values(values: list[float]) -> None:
    low, high = median_interval(values)
    ordered = sorted(values)
    assert low <= ordered[(len(ordered) - 1) // 2]
    assert ordered[len(ordered) // 2] <= high
    assert {low, high} <= set(values)


@pytest.mark.parametrize(("n", "k"), [(5, 1), (6, 1), (8, 1), (9, 2), (20, 6), (25, 8), (100, 40)])
def test_the_ranks_are_those_of_the_tables(n: int, k: int) -> None:
    values = [float(rank) for rank in range(1, n + 1)]
    random.Random(n).shuffle(values)
    assert median_interval(values) == (k, n + 1 - k)
    if n >= 6:
        assert 2 * sum(comb(n, i) for i in range(k)) / 2**n <= 0.05
        assert 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n > 0.05


def test_no_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match="measure at least one"):
        median_interval([])
