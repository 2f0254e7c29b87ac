"""Claims about when reports are announced."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from esper.journal.outbox import AT_ONCE_MAX, HELD_MAX, WAIT_FIRST_S, WAIT_MAX_S, Outbox
from tests.esper.journal.samples import report


def due(outbox: Outbox, now_s: float) -> list[str]:
    """Announce what is due; the event ids."""
    letters = outbox.due(now_s)
    for letter in letters:
        outbox.announced(letter, now_s)
    return [letter.event_id for letter in letters]


def test_reports_are_announced_in_their_order_and_again_after_waits_that_double_up_to_a_bound() -> None:
    outbox = Outbox()
    outbox.take([report(2), report(1)])
    assert due(outbox, 0.0) == ["run-r2", "run-r1"]
    assert due(outbox, WAIT_FIRST_S - 0.1) == []
    assert due(outbox, WAIT_FIRST_S) == ["run-r2~1", "run-r1~1"]
    times = [now_s for now_s in range(3, 1_000) if due(outbox, float(now_s))]
    waits = [b - a for a, b in itertools.pairwise(times)]
    assert waits[:4] == [8, 16, 32, WAIT_MAX_S]
    assert set(waits[3:]) == {WAIT_MAX_S}


def test_a_report_that_is_refused_holds_up_those_behind_it() -> None:
    outbox = Outbox()
    outbox.take([report(1), report(2)])
    (first, _) = outbox.due(0.0)
    outbox.refused(0.0)
    assert outbox.due(WAIT_FIRST_S - 0.1) == ()
    assert outbox.due(WAIT_FIRST_S)[0] == first
    outbox.refused(WAIT_FIRST_S)
    assert outbox.due(WAIT_FIRST_S * 2) == ()
    assert due(outbox, WAIT_FIRST_S * 3) == ["run-r1", "run-r2"]


def test_it_holds_and_announces_a_bounded_number() -> None:
    outbox = Outbox()
    outbox.take(report(number) for number in range(2 * HELD_MAX))
    assert (outbox.room, len(outbox.held)) == (0, HELD_MAX)
    assert len(outbox.due(0.0)) == AT_ONCE_MAX
    outbox.drop(["run-r0", "run-r9999"])
    assert outbox.room == 1


def test_a_report_in_another_ones_place_is_announced_under_a_new_event_id() -> None:
    outbox = Outbox()
    outbox.take([report(1)])
    (old,) = outbox.due(0.0)
    outbox.renew("run-r1")
    outbox.take([report(1, says=1.0)])
    outbox.announced(old, 0.0)
    (new,) = outbox.due(0.0)
    assert (new.event_id, new.report.metrics["gain"]) == ("run-r1", 1.0), "the old one was never out"
    outbox.announced(new, 0.0)
    outbox.renew("run-r1")
    outbox.take([report(1, says=2.0)])
    assert due(outbox, 0.0) == ["run-r1~1"]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["take", "step", "refuse", "drop"]), max_size=60))
def test_the_first_announcements_are_in_order_and_no_event_id_is_used_twice(steps: list[str]) -> None:
    outbox, now_s, taken = Outbox(), 0.0, 0
    ids: list[str] = []
    for step in steps:
        now_s += 1.0
        match step:
            case "take":
                outbox.take([report(taken)])
                taken += 1
            case "step":
                ids += due(outbox, now_s)
            case "refuse":
                outbox.refused(now_s)
            case "drop":
                outbox.drop(list(outbox.held)[:1])
    assert len(set(ids)) == len(ids)
    first = [int(one[5:]) for one in ids if "~" not in one]
    assert first == sorted(first)
