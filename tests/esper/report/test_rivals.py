import msgspec
import pytest

from contracts.conflict import ConflictFacts, PairFacts
from contracts.report import EpochFacts, Report
from esper.report.page import page
from esper.report.rivals import rows, summary
from tests.esper.report.made_up import a_report


def report(*epochs: ConflictFacts | None) -> Report:
    facts = tuple(EpochFacts(n, 1.0, 1.0, 0.5, 0.01, conflict=one) for n, one in enumerate(epochs))
    return msgspec.structs.replace(a_report(3), epochs=facts)


def epoch(steps: int, cosine: float, conflicts: int, projected: int = 0) -> ConflictFacts:
    pairs = (
        PairFacts("joint", "one#0", 0.5, 0.25, 0),
        PairFacts("one#0", "two#0", cosine, cosine, conflicts),
    )
    return ConflictFacts(steps, conflicts, 0.0, projected, 1_000_000, pairs)


def test_a_run_that_compared_nothing_says_nothing_of_it() -> None:
    nothing_due = ConflictFacts(0, 0, 0.0, 0, 0)
    for one in (report(None, None), report(nothing_due)):
        assert summary(one) == ""
        assert rows(one) == []
        assert "Several seeds" not in page(one)


def test_a_pairs_mean_is_over_the_runs_steps_not_its_epochs() -> None:
    one = report(None, epoch(1, 0.5, 0), epoch(3, -0.5, 3))
    joint, pair = rows(one)
    assert (joint.one, joint.other, joint.share) == ("all seeds", "one#0 alone", 0.0)
    assert (pair.one, pair.other, pair.steps) == ("one#0 alone", "two#0 alone", 4)
    assert (pair.cosine_mean, pair.cosine_min, pair.share) == (-0.25, -0.5, 0.75)


@pytest.mark.parametrize(
    ("projected", "said"), [(0, "none was projected"), (1, "1 step was"), (40, "40 steps were projected")]
)
def test_the_page_says_how_often_what_came_of_it_and_what_it_cost(projected: int, said: str) -> None:
    text = summary(report(epoch(4, -0.5, 1, projected), epoch(4, 0.5, 0)))
    assert "8 steps of 2 epochs; in 12.5 % of them" in text
    assert said in text
    assert text.endswith("It took 2.00 MFLOP.")
    assert text in page(report(epoch(4, -0.5, 1, projected), epoch(4, 0.5, 0)))
    assert "−0.50" in page(report(epoch(4, -0.5, 1, projected)))
