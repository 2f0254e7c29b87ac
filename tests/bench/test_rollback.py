"""The rollback benchmark runs, goes back each time, and shows the figures it promises."""

from bench import rollback
from bench.__main__ import figures
from bench.measure import Size


def test_the_rollback_benchmark_times_the_whole_way_back_and_its_parts() -> None:
    found = dict(figures(rollback.run(Size.SMALL)))

    def ms(name: str) -> float:
        return float(str(found[f"{name}_ms"]))

    for way, rounds in (("fast", 3), ("full", 1)):
        assert found[f"{way}.0.1M.n"] == rounds
        assert 0 < ms(f"{way}.0.1M.p50") <= ms(f"{way}.0.1M.p99")
        for part in ("restore", "keep"):
            assert 0 < ms(f"{part}.{way}.0.1M.max") < ms(f"{way}.0.1M.max"), "a part of it"
        assert ms(f"{way}.0.1M.max") < ms(f"to_training.{way}.0.1M.max")
    assert 90_000 < int(str(found["parameters.0.1M"])) < 120_000


def test_its_budgets_are_those_of_the_contracts_for_every_size() -> None:
    limits = {budget.figure: budget.limit for budget in rollback.BUDGETS}
    assert limits == {
        **{f"fast.{size}.p99_ms": 500 for size in ("0.1M", "1M", "10M")},
        **{f"full.{size}.p99_ms": 12_000 for size in ("0.1M", "1M", "10M")},
    }
