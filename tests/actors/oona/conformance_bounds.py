"""Conformance: room is handed over in order, and everything has a bound."""

import pytest

from actors.oona.bus import Outcome
from actors.oona.errors import QueueFullError
from actors.oona.policy import BusConfig, Overflow, TopicPolicy
from tests.actors.oona.rig import Note, Rig, with_topic

WAIT = TopicPolicy(
    groups=("g",), capacity=1, overflow=Overflow.WAIT, wait_max_s=1, ack_deadline_s=500, stall_after_s=None
)
CALM = TopicPolicy(groups=("g",), stall_after_s=None)


class BoundsConformance:
    """Room is handed over in order, and everything has a bound."""

    # Hand-over

    @with_topic(WAIT)
    async def test_nobody_overtakes_those_who_wait(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = await rig.start(rig.bus.publish("t", Note(1)))
        (first,) = await consumer.receive()
        first.ack()
        with pytest.raises(QueueFullError):
            rig.bus.publish_nowait("t", Note(2))
        assert (await parked).outcome is Outcome.ACCEPTED
        assert await rig.ack_all(consumer) == [1]

    @with_topic(WAIT)
    async def test_of_two_waiting_publishers_with_one_id_one_is_a_duplicate(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = [await rig.start(rig.bus.publish("t", Note(1), event_id="one")) for _ in range(2)]
        await rig.settle()
        taken = []
        for _ in range(3):
            taken.append(await rig.ack_all(consumer))
            await rig.settle()
        assert taken == [[0], [1], []]
        assert [(await task).outcome for task in parked] == [Outcome.ACCEPTED, Outcome.DUPLICATE]

    @with_topic(TopicPolicy(capacity=1, overflow=Overflow.WAIT))
    async def test_when_the_last_group_ends_those_who_waited_for_it_are_unrouted(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = await rig.start(rig.bus.publish("t", Note(1)))
        consumer.close()
        assert (await parked).outcome is Outcome.UNROUTED

    @with_topic(TopicPolicy(), BusConfig(groups_max=1, consumers_max=1))
    async def test_groups_and_consumers_are_bounded(self, rig: Rig) -> None:
        rig.bus.subscribe("t", "g", "a")
        with pytest.raises(ValueError, match="consumers_max"):
            await rig.bus.subscribe("t", "g", "b").receive(wait_s=0)
        with pytest.raises(ValueError, match="groups_max"):
            await rig.bus.subscribe("t", "h", "a").receive(wait_s=0)
        assert (await rig.metrics()).topics[0].consumers == ("g/a",)

    @with_topic(CALM)
    async def test_what_makes_no_sense_is_refused_and_changes_nothing(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        before = await rig.metrics()
        with pytest.raises(ValueError, match="would receive nothing"):
            await consumer.receive(0)
        with pytest.raises(ValueError, match="would expire at once"):
            await rig.bus.publish("t", Note(2), ttl_s=0)
        with pytest.raises(ValueError, match="one or more, each once"):
            rig.bus.subscribe(["t", "t"], "g", "b")
        assert await rig.metrics() == before
        (delivery,) = await consumer.receive()
        with pytest.raises(ValueError, match="delay_s 601 is out of range; it takes 0 to 600 s"):
            delivery.nack(delay_s=601)
        with pytest.raises(ValueError, match="deadline_s 0 is out of range"):
            delivery.extend(0)
        delivery.ack()
        assert (await rig.ledger("g")).late == 0
