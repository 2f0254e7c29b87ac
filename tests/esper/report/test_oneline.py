"""A run in single lines."""

from contracts.view import Event, RunFacts, RunView
from esper.report.oneline import event_line, opening, progress_line
from tests.esper.report.made_up import a_view


def test_one_line_says_where_a_run_is() -> None:
    line = progress_line(a_view())
    assert line.startswith("epoch 120  probing  45 %  train loss ")
    assert "\n" not in line


def test_the_first_line_says_what_is_run_and_for_how_long() -> None:
    facts = RunFacts("mnist1d", "random", 3, "runs", epochs=40)
    assert opening(facts) == "mnist1d · policy random · seed 3 · 40 epochs · runs"


def test_one_line_does_without_what_is_not_known_yet() -> None:
    line = progress_line(RunView(RunFacts("mnist1d", "random", 3, "runs")))
    assert line == "epoch 0  starting  0 parameters"


def test_an_event_is_one_line() -> None:
    assert event_line(Event(1200, "culled", "b77c: it hurt")) == "epoch 1,200  culled  b77c: it hurt"
