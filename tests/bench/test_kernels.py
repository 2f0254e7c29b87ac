"""The pipeline's benchmark runs, and shows the figures it promises."""

from bench import kernels
from bench.__main__ import figures
from bench.measure import Size


def test_the_kernels_benchmark_gives_its_figures() -> None:
    found = dict(figures(kernels.run(Size.SMALL)))
    asked = ("query", "query_cold", "fetch_cached")
    for step in (*asked, "fetch_disk", "graft.dearest", "draw", "compile.standard", "compile.fast"):
        assert found[f"{step}.n"]
        assert 0 < float(str(found[f"{step}.p50_ms"])) <= float(str(found[f"{step}.p99_ms"]))
    assert {budget.figure for budget in kernels.BUDGETS} <= set(found)
    assert found["kernels"] == kernels.KERNELS[Size.SMALL]
