"""Messages that can't be believed: all of them ends the observing, some of them is said."""

import pytest

from contracts.signing.refusal import Refusal
from esper.observer.belief import ADVICE, Belief, Unbelieved


@pytest.mark.parametrize("reason", [Refusal.UNSIGNED, Refusal.UNKNOWN_KEY, Refusal.BAD_MAC])
def test_nothing_but_refusals_is_said_with_what_would_help(reason: Refusal) -> None:
    belief = Belief()
    assert belief.judge({each.value: 0 for each in Refusal}) == ""
    with pytest.raises(Unbelieved, match="ESPER_LEYLINE_SECRET") as caught:
        belief.judge({reason.value: 3, Refusal.STALE.value: 1})
    assert ADVICE[reason] in str(caught.value)


def test_a_reason_without_advice_is_named() -> None:
    with pytest.raises(Unbelieved, match="id reused"):
        Belief().judge({"id_reused": 1})


def test_some_refusals_among_what_is_believed_are_said_once_a_reason() -> None:
    belief = Belief()
    belief.believed = 5
    assert "2 bad mac" in belief.judge({"bad_mac": 2})
    assert belief.judge({"bad_mac": 9}) == ""
    assert "1 unsigned" in belief.judge({"bad_mac": 9, "unsigned": 1})


def test_what_somebody_added_past_the_bus_says_nothing_of_the_run() -> None:
    assert "1 unknown entry" in Belief().judge({"unknown_entry": 1})
    with pytest.raises(Unbelieved, match="another secret"):
        Belief().judge({"unknown_entry": 9, "bad_mac": 1})
