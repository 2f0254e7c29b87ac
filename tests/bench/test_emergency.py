"""The emergency benchmark runs, and shows the figures it promises."""

from bench import emergency
from bench.__main__ import NAMES, figures
from bench.measure import Size


def test_the_emergency_benchmark_gives_its_figures() -> None:
    found = dict(figures(emergency.run(Size.SMALL)))
    assert {budget.figure for budget in emergency.BUDGETS} <= set(found)
    assert {"p50_ms", "calm.signal.p99_ms", "calm.trouble.p99_ms", "step.p50_ms"} <= set(found)
    assert found["n"] == emergency.TRIALS[Size.SMALL]


def test_the_emergency_benchmark_can_be_asked_for() -> None:
    assert "emergency" in NAMES
