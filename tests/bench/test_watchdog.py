"""The watchdog's benchmark at its small size."""

from bench.__main__ import NAMES, figures
from bench.measure import Size
from bench.watchdog import BUDGETS, run


def test_every_stall_is_seen_and_every_budget_has_its_figure() -> None:
    found = dict(figures(run(Size.SMALL)))
    assert found["python.n"] == found["lock.n"] == 1
    assert {budget.figure for budget in BUDGETS} <= found.keys()
    assert "watchdog" in NAMES
