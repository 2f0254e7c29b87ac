"""Conformance: what a topic shows to who comes late, and how up to date its figures are."""

import pytest

from actors.oona.bus import Outcome
from actors.oona.errors import QueueFullError, UnknownTopicError
from actors.oona.policy import TopicPolicy
from actors.oona.priority import Priority
from tests.actors.oona.rig import Note, Rig, with_topic


class HistoryConformance:
    """What a topic shows to who comes late."""

    @with_topic(TopicPolicy(groups=("g",), history=3, capacity=4))
    async def test_the_newest_messages_of_a_topic_are_kept_whatever_became_of_them(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0, 1])
        await rig.ack_all(consumer)
        await rig.bus.publish("t", Note(2), event_id="two", priority=Priority.EMERGENCY)
        await rig.publish("t", [3])
        past = await rig.bus.history("t")
        assert [each.message for each in past] == [Note(1), Note(2), Note(3)]
        assert (past[1].event_id, past[1].priority) == ("two", Priority.EMERGENCY)
        assert past[1].published_s == pytest.approx(100.0, abs=0.001)

    @with_topic(TopicPolicy(history=9))
    async def test_it_holds_what_nobody_was_there_to_hear(self, rig: Rig) -> None:
        assert (await rig.bus.publish("t", Note(1))).outcome is Outcome.UNROUTED
        assert [each.message for each in await rig.bus.history("t")] == [Note(1)]

    @with_topic(TopicPolicy(groups=("g",), history=9, capacity=1, stall_after_s=None))
    async def test_what_was_refused_or_seen_before_is_not_in_it(self, rig: Rig) -> None:
        for _ in range(2):
            await rig.bus.publish("t", Note(1), event_id="one")
        with pytest.raises(QueueFullError):
            await rig.bus.publish("t", Note(2))
        assert [each.event_id for each in await rig.bus.history("t")] == ["one"]

    @with_topic(TopicPolicy(groups=("g",)))
    async def test_a_topic_keeps_none_unless_its_policy_says_so(self, rig: Rig) -> None:
        await rig.publish("t", [1])
        assert list(await rig.bus.history("t")) == []
        with pytest.raises(UnknownTopicError):
            await rig.bus.history("tt")

    @with_topic(TopicPolicy(groups=("g",)))
    async def test_what_was_handed_over_shows_in_the_figures_after_a_flush(self, rig: Rig) -> None:
        for n in range(10):
            rig.bus.publish_nowait("t", Note(n))
        await rig.bus.flush()
        fresh = await rig.bus.refresh()
        assert fresh.depth == 10
        assert rig.bus.metrics() == fresh
