"""Conformance: what happens when there is no room."""

import asyncio

import pytest

from actors.oona.bus import Outcome
from actors.oona.errors import (
    ConservativeModeError,
    ParkingFullError,
    QueueFullError,
    WaitExpiredError,
)
from actors.oona.policy import Overflow, TopicPolicy
from actors.oona.priority import Lane, Priority
from tests.actors.oona.rig import Note, Rig, with_topic

DECLARED = TopicPolicy(groups=("g",), stall_after_s=None)


class OverflowConformance:
    """What happens when there is no room."""

    @with_topic(TopicPolicy(groups=("g", "h"), capacity=2, overflow=Overflow.REJECT))
    async def test_reject_refuses_for_all_groups_when_one_is_full(self, rig: Rig) -> None:
        quick = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1, 2])
        await rig.ack_all(quick)
        with pytest.raises(QueueFullError, match="group h holds 2 messages"):
            await rig.bus.publish("t", Note(3))
        assert await rig.ack_all(quick) == []
        assert (
            (await rig.ledger("g")).refused
            == (await rig.ledger("h")).refused
            == (await rig.published()).refused
            == 1
        )

    @with_topic(TopicPolicy(groups=("g",), capacity=2))
    async def test_a_refused_event_id_may_be_published_again(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1, 2])
        with pytest.raises(QueueFullError):
            await rig.bus.publish("t", Note(3), event_id="three")
        await rig.ack_all(consumer)
        await rig.bus.publish("t", Note(3), event_id="three")
        assert await rig.ack_all(consumer) == [3]

    @with_topic(TopicPolicy(groups=("g",), capacity=2, overflow=Overflow.DROP_OLDEST))
    async def test_drop_oldest_keeps_the_newest_and_counts_the_others(self, rig: Rig) -> None:
        await rig.publish("t", range(5))
        assert (await rig.ledger("g")).dropped == 3
        assert await rig.ack_all(rig.bus.subscribe("t", "g", "a")) == [3, 4]

    @with_topic(TopicPolicy(groups=("g",), capacity=2, overflow=Overflow.DROP_OLDEST))
    async def test_drop_oldest_drops_nothing_that_is_in_hand(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1, 2])
        held = await consumer.receive(2)
        with pytest.raises(QueueFullError, match="0 waiting"):
            await rig.bus.publish("t", Note(3))
        assert ((await rig.ledger("g")).dropped, (await rig.ledger("g")).refused) == (0, 1)
        held[0].ack()
        await rig.publish("t", [4])

    @with_topic(
        TopicPolicy(
            groups=("g",), capacity=2, urgent_capacity=4, reroute_capacity=2, overflow=Overflow.REROUTE
        )
    )
    async def test_reroute_takes_only_its_share_of_the_urgent_lane(self, rig: Rig) -> None:
        for n in range(4):
            receipt = await rig.bus.publish("t", Note(n), event_id=f"id {n}")
            assert receipt.outcome is (Outcome.ACCEPTED if n < 2 else Outcome.REROUTED)
        assert (await rig.bus.publish("t", Note(9), event_id="id 3")).outcome is Outcome.DUPLICATE
        with pytest.raises(QueueFullError):
            await rig.bus.publish("t", Note(4))
        for n in (5, 6):
            await rig.bus.publish("t", Note(n), priority=Priority.CRITICAL)
        assert (await rig.ledger("g", Lane.URGENT)).pending == 4
        consumer = rig.bus.subscribe("t", "g", "a")
        assert await rig.ack_all(consumer) == [5, 6, 2, 3, 0, 1]
        assert ((await rig.published()).rerouted, (await rig.published()).refused) == (2, 1)

    @with_topic(TopicPolicy(groups=("g",), capacity=2, urgent_capacity=2, reroute_capacity=0))
    async def test_a_full_normal_lane_does_not_hold_up_urgent_messages(self, rig: Rig) -> None:
        await rig.publish("t", [1, 2])
        await rig.bus.publish("t", Note(3), priority=Priority.EMERGENCY)
        assert await rig.ack_all(rig.bus.subscribe("t", "g", "a")) == [3, 1, 2]

    @with_topic(TopicPolicy(groups=("g",), urgent_capacity=2, reroute_capacity=0))
    async def test_a_full_urgent_lane_refuses_and_makes_the_bus_conservative(self, rig: Rig) -> None:
        for n in range(2):
            await rig.bus.publish("t", Note(n), priority=Priority.CRITICAL)
        with pytest.raises(QueueFullError, match="urgent lane of group g holds 2 messages"):
            await rig.bus.publish("t", Note(2), priority=Priority.EMERGENCY)
        with pytest.raises(ConservativeModeError, match="urgent lane of group g"):
            await rig.bus.publish("t", Note(3))
        assert ((await rig.ledger("g", Lane.URGENT)).refused, (await rig.ledger("g")).shed) == (1, 1)


class WaitConformance:
    """Publishers that wait for room."""

    POLICY = TopicPolicy(
        groups=("g",),
        capacity=1,
        overflow=Overflow.WAIT,
        parked_max=2,
        wait_max_s=1,
        ack_deadline_s=500,
        stall_after_s=None,
    )

    @with_topic(POLICY)
    async def test_publishers_wait_for_room_and_get_it_in_order(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = [await rig.start(rig.bus.publish("t", Note(n))) for n in (1, 2)]
        await rig.settle()
        assert (await rig.metrics()).topics[0].parked == 2
        for n in range(3):
            assert [task.done() for task in parked] == [n >= 1, n >= 2]
            (delivery,) = await consumer.receive(10)
            assert delivery.message == Note(n)
            delivery.ack()
            await rig.settle()

    @with_topic(POLICY)
    async def test_a_bounded_number_of_publishers_waits(self, rig: Rig) -> None:
        await rig.publish("t", [0])
        parked = [await rig.start(rig.bus.publish("t", Note(n))) for n in (1, 2)]
        await rig.settle()
        with pytest.raises(ParkingFullError, match="2 do, as many as may"):
            await rig.bus.publish("t", Note(3))
        for task in parked:
            task.cancel()
        await asyncio.wait(parked)

    @with_topic(POLICY)
    async def test_a_publisher_waits_no_longer_than_its_deadline(self, rig: Rig) -> None:
        await rig.publish("t", [0])
        parked = await rig.start(rig.bus.publish("t", Note(1)))
        await rig.let_pass(0.9)
        assert not parked.done()
        await rig.let_pass(0.3)
        with pytest.raises(WaitExpiredError, match=r"no room for .* within 1 s"):
            await parked
        assert ((await rig.ledger("g")).refused, (await rig.ledger("g")).pending) == (1, 1)

    @with_topic(POLICY)
    async def test_a_cancelled_publisher_leaves_no_trace(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        before = await rig.metrics()
        parked = await rig.start(rig.bus.publish("t", Note(1), event_id="one"))
        parked.cancel()
        await asyncio.wait([parked])
        after = await rig.metrics()
        assert (after.published, after.groups) == (before.published, before.groups)
        assert after.topics[0].parked == 0
        assert await rig.ack_all(consumer) == [0]
        await rig.bus.publish("t", Note(1), event_id="one")
        assert await rig.ack_all(consumer) == [1]

    @with_topic(POLICY)
    async def test_publish_nowait_refuses_instead(self, rig: Rig) -> None:
        rig.bus.publish_nowait("t", Note(0))
        with pytest.raises(QueueFullError, match="await publish, which waits for room"):
            rig.bus.publish_nowait("t", Note(1))
        assert (await rig.ledger("g")).refused == 1
