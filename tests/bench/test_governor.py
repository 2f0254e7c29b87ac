"""The governor benchmark runs, and shows the figures it promises."""

from bench import governor
from bench.__main__ import figures
from bench.measure import Size


def test_the_governor_benchmark_gives_its_figures() -> None:
    found = dict(figures(governor.run(Size.SMALL)))
    assert {budget.figure for budget in governor.BUDGETS} <= set(found)
    assert {"idle_steps_per_s", "ungoverned.kept_min_ratio", "loop_turn.active_us"} <= set(found)
