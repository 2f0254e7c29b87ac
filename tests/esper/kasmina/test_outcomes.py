"""The newest answers are kept, the oldest go first, and a command's first answer stays its answer."""

from contracts.messages import AdaptationCommand, CommandType
from esper.kasmina.outcomes import Outcome, Outcomes


def outcome(command_id: str, *, applied: bool = True) -> Outcome:
    return Outcome(AdaptationCommand(command_id, CommandType.PAUSE, 0, "operator"), applied)


def test_beyond_the_limit_the_oldest_goes_first() -> None:
    outcomes = Outcomes(map(outcome, "abcde"), limit=3)
    assert outcomes.all() == (outcome("c"), outcome("d"), outcome("e"))
    assert (outcomes.get("b"), outcomes.get("c")) == (None, outcome("c"))


def test_the_first_answer_stays_and_keeps_its_place() -> None:
    outcomes = Outcomes(map(outcome, "abc"), limit=3)
    outcomes.keep(outcome("a", applied=False))
    outcomes.keep(outcome("d"))
    assert outcomes.all() == (outcome("b"), outcome("c"), outcome("d"))
