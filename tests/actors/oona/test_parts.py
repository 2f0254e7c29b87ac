"""The small parts of the bus: remembered ids, agendas, lines, letters, histograms, policies."""

import math

import msgspec
import pytest

from actors.oona.agenda import Agenda
from actors.oona.entry import Entry, Place, Publication
from actors.oona.histogram import BOUNDS_S, Histogram
from actors.oona.policy import BreakerPolicy, BusConfig, ConservativePolicy, TopicPolicy
from actors.oona.priority import LOWEST_URGENT, RANK, Lane, Priority
from actors.oona.queue import LaneQueue
from actors.oona.seen import SeenIds
from actors.oona.topics import TOPICS
from contracts import topics
from contracts.messages import MessagePriority
from tests.actors.oona.rig import Note


def entry(number: int, queue: LaneQueue, rank: int = 1) -> Entry:
    publication = Publication(number, "t", Note(number), Priority.NORMAL, str(number), 0.0, None)
    return Entry(publication, queue, rank)


def test_only_the_last_ids_are_remembered() -> None:
    seen = SeenIds(3)
    for n in range(1_000):
        seen.add(str(n))
    assert len(seen) == 3
    assert [str(n) in seen for n in (996, 997, 998, 999)] == [False, True, True, True]


def test_an_agenda_gives_what_is_due_in_order_and_skips_what_moved_on() -> None:
    queue = LaneQueue("g", Lane.NORMAL, 10)
    agenda = Agenda(lambda ticket, each: each.ticket == ticket)
    one, two, three = (entry(n, queue) for n in (1, 2, 3))
    for due_s, each in ((5.0, one), (3.0, two), (4.0, three), (9.0, two), (5.0, one)):
        agenda.push(due_s, each)
    assert [agenda.pop_due(6.0), agenda.pop_due(6.0), agenda.pop_due(6.0)] == [three, one, None]
    assert agenda.live() == [two]


def test_an_agenda_stays_small_however_often_an_entry_is_put_off() -> None:
    queue = LaneQueue("g", Lane.NORMAL, 10)
    agenda = Agenda(lambda ticket, each: each.ticket == ticket)
    entries = [entry(n, queue) for n in range(10)]
    for due in range(10_000):
        agenda.push(1.0, entries[due % 10])
        assert len(agenda) <= 2 * len(entries) + 64


def test_gaps_in_a_line_are_swept_out() -> None:
    queue = LaneQueue("g", Lane.NORMAL, 10)
    first = entry(0, queue)
    queue.admit(first)
    for n in range(1, 1_000):
        each = entry(n, queue)
        queue.admit(each)
        queue.settle(each)
        assert queue.waiting == 1
        assert sum(len(line) for line in queue._lines) <= 66
    assert (queue.pop(), queue.pop()) == (first, None)


def test_what_was_there_before_goes_to_the_head_of_its_line() -> None:
    queue = LaneQueue("g", Lane.NORMAL, 10)
    for n in range(3):
        queue.admit(entry(n, queue))
    first = queue.pop()
    assert first is not None
    queue.put_back(first)
    first.place = Place.WAITING
    assert [each.publication.number for each in queue.live()] == [0, 1, 2]
    assert queue.oldest() is first


def test_a_histogram_counts_each_duration_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram()
    for duration_s in (0.0, BOUNDS_S[0], 0.0011, 1e9):
        histogram.observe(duration_s)
    snapshot = histogram.snapshot()
    assert (snapshot.counts[0], snapshot.counts[5], snapshot.counts[-1]) == (2, 1, 1)
    assert (snapshot.quantile(0.5), snapshot.quantile(0.75), snapshot.quantile(1)) == (
        50e-6,
        0.0025,
        math.inf,
    )
    assert Histogram().snapshot().quantile(0.5) == 0.0


def test_priorities_have_the_numbers_of_the_wire() -> None:
    shared = {each.name: each.value for each in MessagePriority if each is not MessagePriority.UNSPECIFIED}
    assert {each.name: each.value for each in Priority if each is not Priority.EMERGENCY} == shared


def test_only_critical_and_emergency_are_urgent() -> None:
    urgent = [priority for priority in Priority if priority >= LOWEST_URGENT]
    assert urgent == [Priority.CRITICAL, Priority.EMERGENCY]
    assert set(RANK) == set(Priority)
    assert LOWEST_URGENT is Priority.CRITICAL


def test_every_topic_of_a_run_is_declared() -> None:
    assert tuple(TOPICS) == topics.ALL


def test_all_topics_together_fit_under_the_limit_on_depth() -> None:
    assert sum(policy.capacity + policy.urgent_capacity for policy in TOPICS.values()) <= 10_000


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"capacity": 0}, "capacity 0 is out of range; it takes 1 or more"),
        ({"ack_deadline_s": math.inf}, "ack_deadline_s inf is out of range"),
        ({"ttl_s": -1.0}, "ttl_s -1.0 is out of range"),
        ({"urgent_capacity": 8, "reroute_capacity": 8}, "it takes 0 to 7"),
        ({"backoff_s": ()}, "must be one or more delays"),
        ({"groups": ("g", "g")}, "name a group twice"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TopicPolicy(**wrong)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(wrong).replace(b"null", b"-1"), type=TopicPolicy)


def test_marks_dwell_and_breaker_are_checked() -> None:
    with pytest.raises(ValueError, match="low mark 5, high mark 4"):
        ConservativePolicy(high_mark=4, low_mark=5)
    with pytest.raises(ValueError, match="open_s 0"):
        BreakerPolicy(open_s=0)
    with pytest.raises(ValueError, match="tick_work_max 0"):
        BusConfig(tick_work_max=0)


def test_the_defaults_are_those_that_were_promised() -> None:
    config, policy = BusConfig(), TopicPolicy()
    marks = config.conservative
    assert (marks.high_mark, marks.low_mark, marks.dwell_s, policy.stall_after_s) == (4_000, 1_000, 60, 2)
    assert (config.breaker.failures_max, config.breaker.open_s) == (3, 30)
    assert (policy.attempts_max, policy.backoff_s) == (5, (0.25, 1, 4))
