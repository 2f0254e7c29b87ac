"""The rollback benchmark runs, goes back each time, and shows the figures it promises."""

from bench import rollback
from bench.__main__ import figures
from bench.measure import Size


def test_the_rollback_benchmark_gives_its_figures() -> None:
    found = dict(figures(rollback.run(Size.SMALL)))
    for way, rounds in (("fast", 3), ("full", 1)):
        assert found[f"{way}.0.1M.n"] == rounds
        assert 0 < float(str(found[f"{way}.0.1M.p50_ms"])) <= float(str(found[f"{way}.0.1M.p99_ms"]))
    assert 90_000 < int(str(found["parameters.0.1M"])) < 120_000


def test_its_budgets_are_those_of_the_contracts_for_every_size() -> None:
    limits = {budget.figure: budget.limit for budget in rollback.BUDGETS}
    assert limits == {
        **{f"fast.{size}.p99_ms": 500 for size in ("0.1M", "1M", "10M")},
        **{f"full.{size}.p99_ms": 12_000 for size in ("0.1M", "1M", "10M")},
    }
