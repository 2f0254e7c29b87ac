"""Conformance: who gets what, in which order."""

import asyncio

import pytest

from actors.oona.bus import Outcome
from actors.oona.errors import (
    UnknownTopicError,
)
from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.priority import Lane, Priority
from tests.actors.oona.rig import MakeBus, Note, Play, Rig, notes, with_topic

DECLARED = TopicPolicy(groups=("g",), stall_after_s=None)


class DeliveryConformance:
    """Who gets what, in which order."""

    @with_topic(TopicPolicy())
    async def test_every_group_gets_every_message(self, rig: Rig) -> None:
        left = rig.bus.subscribe("t", "left", "a")
        right = rig.bus.subscribe("t", "right", "a")
        await rig.publish("t", range(3))
        assert await rig.ack_all(left) == [0, 1, 2]
        assert await rig.ack_all(right) == [0, 1, 2]
        assert (await rig.ledger("left")).acked == (await rig.ledger("right")).acked == 3

    @with_topic(TopicPolicy())
    async def test_consumers_of_a_group_share_its_messages(self, rig: Rig) -> None:
        one = rig.bus.subscribe("t", "g", "one")
        two = rig.bus.subscribe("t", "g", "two")
        await rig.publish("t", range(4))
        shares = notes(await one.receive(2)), notes(await two.receive(2))
        assert shares == ([0, 1], [2, 3])

    @with_topic(TopicPolicy())
    async def test_higher_priorities_come_first_and_equal_ones_in_order(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        priorities = [Priority.LOW, Priority.NORMAL, Priority.EMERGENCY, Priority.HIGH, Priority.CRITICAL]
        for n, priority in enumerate(priorities * 2):
            await rig.bus.publish("t", Note(n), priority=priority)
        assert await rig.ack_all(consumer) == [2, 7, 4, 9, 3, 8, 1, 6, 0, 5]

    def test_urgent_messages_of_any_topic_overtake(self, make_bus: MakeBus, play: Play) -> None:
        async def scenario() -> None:
            async with make_bus({"x": TopicPolicy(), "y": TopicPolicy()}) as rig:
                consumer = rig.bus.subscribe(["x", "y"], "g", "a")
                await rig.publish("x", [1])
                await rig.bus.publish("y", Note(2), priority=Priority.CRITICAL)
                first = await consumer.receive(10)
                assert [(d.topic, d.lane) for d in first] == [("y", Lane.URGENT), ("x", Lane.NORMAL)]

        play(scenario)

    @with_topic(TopicPolicy())
    async def test_a_consumer_waits_until_there_is_a_message(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        waiting = asyncio.create_task(consumer.receive(5))
        await rig.settle()
        assert not waiting.done()
        await rig.publish("t", [1])
        assert notes(await waiting) == [1]

    @with_topic(TopicPolicy())
    async def test_a_consumer_waits_no_longer_than_it_wants(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        assert list(await consumer.receive(5, wait_s=0)) == []
        waiting = asyncio.create_task(consumer.receive(5, wait_s=3))
        await rig.let_pass(2.9)
        assert not waiting.done()
        await rig.let_pass(0.2)
        assert list(await waiting) == []
        waiting = asyncio.create_task(consumer.receive(5, wait_s=3))
        await rig.settle()
        await rig.publish("t", [1])
        assert notes(await waiting) == [1]
        await rig.publish("t", [2, 3])
        assert notes(await consumer.receive(5, wait_s=0)) == [2, 3]

    @with_topic(TopicPolicy())
    async def test_a_cancelled_receive_loses_nothing(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        waiting = asyncio.create_task(consumer.receive())
        await rig.settle()
        await rig.publish("t", [1])
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await rig.ack_all(consumer) == [1]
        assert (await rig.ledger("g")).delivered == 1

    @with_topic(TopicPolicy())
    async def test_iteration_takes_messages_one_by_one_until_the_subscription_is_closed(
        self, rig: Rig
    ) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", range(3))
        seen = []
        async for delivery in consumer:
            with delivery:
                seen.append(delivery.message)
            if len(seen) == 3:
                consumer.close()
        assert seen == [Note(0), Note(1), Note(2)]

    @with_topic(DECLARED)
    async def test_a_declared_group_retains_messages_before_anyone_subscribes(self, rig: Rig) -> None:
        await rig.publish("t", [1])
        assert await rig.ack_all(rig.bus.subscribe("t", "g", "a")) == [1]

    @with_topic(TopicPolicy())
    async def test_a_message_without_any_group_is_unrouted(self, rig: Rig) -> None:
        receipt = await rig.bus.publish("t", Note(1))
        assert receipt.outcome is Outcome.UNROUTED
        assert await rig.ack_all(rig.bus.subscribe("t", "g", "a")) == []
        assert (await rig.published()).unrouted == 1

    @with_topic(TopicPolicy())
    async def test_an_undeclared_group_ends_with_its_last_consumer(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        consumer.close()
        assert (await rig.metrics()).depth == 0
        assert await rig.ack_all(rig.bus.subscribe("t", "g", "a")) == []

    @with_topic(TopicPolicy())
    async def test_an_acknowledgement_to_a_group_that_ended_changes_nothing(self, rig: Rig) -> None:
        rig.bus.subscribe("t", "other", "a")
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1, 2, 3])
        first, second = await consumer.receive(2)
        consumer.close()
        first.ack()
        second.nack(error="no")
        assert (await rig.metrics()).depth == 3

    @with_topic(TopicPolicy())
    async def test_an_unknown_topic_is_refused_with_the_nearest_name(self, rig: Rig) -> None:
        with pytest.raises(UnknownTopicError, match="'tt' was not declared; the nearest is 't'"):
            await rig.bus.publish("tt", Note(1))
        with pytest.raises(UnknownTopicError, match="nearest"):
            rig.bus.subscribe(["t", "tt"], "g", "a")
        assert (await rig.metrics()).groups == ()

    @with_topic(DECLARED)
    async def test_a_name_can_be_taken_once_in_a_group(self, rig: Rig) -> None:
        first = rig.bus.subscribe("t", "g", "a")
        with pytest.raises(ValueError, match="consumer a is in group g of t already; close"):
            rig.bus.subscribe("t", "g", "a")
        first.close()
        rig.bus.subscribe("t", "g", "a")

    @with_topic(TopicPolicy())
    async def test_an_event_id_seen_before_is_acknowledged_but_not_delivered_again(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        outcomes = [(await rig.bus.publish("t", Note(n), event_id="same")).outcome for n in range(2)]
        assert outcomes == [Outcome.ACCEPTED, Outcome.DUPLICATE]
        assert await rig.ack_all(consumer) == [0]
        assert (await rig.bus.publish("t", Note(2), event_id="same")).outcome is Outcome.DUPLICATE
        assert ((await rig.published()).published, (await rig.published()).duplicates) == (1, 2)

    @with_topic(TopicPolicy(), BusConfig(dedup_ids_max=2))
    async def test_event_ids_are_forgotten_after_the_window(self, rig: Rig) -> None:
        rig.bus.subscribe("t", "g", "a")
        for event_id in ("x", "y", "z"):
            await rig.bus.publish("t", Note(0), event_id=event_id)
        assert (await rig.bus.publish("t", Note(0), event_id="y")).outcome is Outcome.DUPLICATE
        assert (await rig.bus.publish("t", Note(0), event_id="x")).outcome is Outcome.ACCEPTED
