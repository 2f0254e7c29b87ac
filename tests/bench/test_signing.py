"""The signing benchmark runs, and shows the figures it promises."""

from bench import signing
from bench.__main__ import figures
from bench.measure import Size


def test_the_signing_benchmark_gives_its_figures() -> None:
    found = dict(figures(signing.run(Size.SMALL)))
    for name in ("sign", "verify", "admit", "repeat"):
        assert {f"{name}.p50_us", f"{name}.p99_us", f"{name}_round.ratio_to_bare"} <= set(found)
    assert {budget.figure for budget in signing.BUDGETS} <= set(found)
    assert (found["body_bytes"], found["frames"], found["rounds"]) == (280, 200, 2)
    assert found["digest"] == dict(figures(signing.run(Size.SMALL)))["digest"], "the same work each time"
