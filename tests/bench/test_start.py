"""The benchmark of starts begins real runs, and tells an empty store from one that has something."""

import pytest

from bench import start
from bench.__main__ import figures
from bench.measure import Size


@pytest.mark.real
@pytest.mark.kernels
@pytest.mark.slow
def test_the_start_benchmark_begins_runs_with_an_empty_store_and_with_one_that_is_not() -> None:
    found = dict(figures(start.run(Size.SMALL)))
    for kind in ("cold", "warm"):
        assert found[f"{kind}.n"] == start.ROUNDS[Size.SMALL]
        assert float(str(found[f"{kind}.p50_ms"])) > 0
    assert int(str(found["cold.requests"])) > int(str(found["warm.requests"])), (
        "what is there is not asked for"
    )
    assert {budget.figure for budget in start.BUDGETS} <= set(found)
