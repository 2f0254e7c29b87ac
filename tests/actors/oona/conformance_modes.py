"""Conformance: when the bus takes less, or nothing any longer."""

import asyncio

import pytest

from actors.oona.errors import (
    ClosedError,
    ConservativeModeError,
)
from actors.oona.policy import BusConfig, ConservativePolicy, Overflow, TopicPolicy
from actors.oona.priority import Priority
from tests.actors.oona.rig import Note, Rig, with_topic

DECLARED = TopicPolicy(groups=("g",), stall_after_s=None)


class ConservativeConformance:
    """The mode in which the bus takes urgent traffic only."""

    CONFIG = BusConfig(conservative=ConservativePolicy(high_mark=4, low_mark=2, dwell_s=60))
    POLICY = TopicPolicy(groups=("g",), ack_deadline_s=500, stall_after_s=None)

    @with_topic(POLICY, CONFIG)
    async def test_above_the_high_mark_only_urgent_messages_are_taken(self, rig: Rig) -> None:
        await rig.publish("t", range(5))
        with pytest.raises(ConservativeModeError, match="5 messages are unsettled, above the high mark of 4"):
            await rig.bus.publish("t", Note(5), priority=Priority.HIGH)
        await rig.bus.publish("t", Note(6), priority=Priority.CRITICAL)
        assert await rig.ack_all(rig.bus.subscribe("t", "g", "a")) == [6, 0, 1, 2, 3, 4]
        assert ((await rig.published()).shed, (await rig.ledger("g")).shed) == (1, 1)

    @with_topic(POLICY, CONFIG)
    async def test_it_ends_under_the_low_mark_after_the_dwell(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", range(5))
        held = await consumer.receive(3)
        await rig.let_pass(300)
        assert (await rig.metrics()).conservative, "at 5 it must not end, however long"
        for delivery in held:
            delivery.ack()
        await rig.let_pass(59)
        assert (await rig.metrics()).conservative, "at 2, the low mark itself, it must not end"
        await rig.ack_all(consumer)
        await rig.let_pass(2)
        assert not (await rig.metrics()).conservative
        await rig.publish("t", [7])

    @with_topic(POLICY, CONFIG)
    async def test_a_quick_recovery_waits_for_the_dwell(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", range(5))
        await rig.ack_all(consumer)
        await rig.let_pass(58)
        with pytest.raises(ConservativeModeError):
            await rig.bus.publish("t", Note(8))
        await rig.let_pass(3)
        await rig.publish("t", [9])

    @with_topic(TopicPolicy(groups=("g",), stall_after_s=2))
    async def test_a_message_unacknowledged_for_too_long_is_a_cause(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        await rig.let_pass(1.9)
        assert not (await rig.metrics()).conservative
        await rig.let_pass(0.3)
        with pytest.raises(ConservativeModeError, match="unacknowledged for 2"):
            await rig.bus.publish("t", Note(2))
        assert await rig.ack_all(consumer) == [1]

    @with_topic(TopicPolicy(groups=("g",), stall_after_s=2))
    async def test_so_is_one_that_a_consumer_sits_on_from_when_it_got_it(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        await rig.let_pass(1.5)
        (delivery,) = await consumer.receive()
        await rig.let_pass(1.5)
        assert not (await rig.metrics()).conservative
        delivery.extend(60)
        await rig.let_pass(30)
        assert not (await rig.metrics()).conservative, "who extends is alive"
        await rig.publish("t", [2])
        await consumer.receive()
        await rig.let_pass(2.2)
        assert (await rig.metrics()).conservative

    @with_topic(TopicPolicy(groups=("g",), stall_after_s=2))
    async def test_what_waits_for_nobody_or_for_its_backoff_is_no_cause(self, rig: Rig) -> None:
        await rig.publish("t", [1])
        await rig.let_pass(10)
        assert not (await rig.metrics()).conservative
        consumer = rig.bus.subscribe("t", "g", "a")
        (await consumer.receive())[0].nack(delay_s=30)
        await rig.let_pass(20)
        assert not (await rig.metrics()).conservative

    @with_topic(TopicPolicy(groups=("g",), stall_after_s=2))
    async def test_what_lay_there_before_anybody_came_counts_from_then(self, rig: Rig) -> None:
        await rig.publish("t", [1])
        await rig.let_pass(10)
        rig.bus.subscribe("t", "g", "a")
        await rig.let_pass(1.9)
        assert not (await rig.metrics()).conservative
        await rig.let_pass(0.3)
        assert (await rig.metrics()).conservative

    @with_topic(TopicPolicy(groups=("g",), attempts_max=1, urgent_capacity=1, reroute_capacity=0))
    async def test_a_normal_dead_letter_stays_one_meanwhile(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        (await consumer.receive())[0].nack(error="boom")
        await rig.bus.publish("t", Note(2), priority=Priority.CRITICAL)
        (letter,) = await rig.bus.dead_letters.list()
        with pytest.raises(ConservativeModeError, match=r"t/g/\S+ stays a dead letter"):
            await rig.bus.dead_letters.replay(letter.letter_id)
        assert list(await rig.bus.dead_letters.list()) == [letter]

    @with_topic(TopicPolicy(groups=("g",), capacity=1, overflow=Overflow.WAIT, wait_max_s=50))
    async def test_publishers_that_wait_are_sent_away_when_it_begins(self, rig: Rig) -> None:
        rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        parked = await rig.start(rig.bus.publish("t", Note(2)))
        await rig.let_pass(2.2)
        with pytest.raises(ConservativeModeError):
            await parked
        assert (await rig.ledger("g")).shed == 1


class CloseConformance:
    """How it ends."""

    @with_topic(TopicPolicy(groups=("g",), capacity=1, overflow=Overflow.WAIT))
    async def test_a_closed_bus_refuses_publishers_and_ends_subscriptions(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        parked = await rig.start(rig.bus.publish("t", Note(2)))
        await consumer.receive()
        receiving = asyncio.create_task(consumer.receive())
        await rig.settle()
        await rig.bus.close()
        for waiting in (parked, receiving):
            with pytest.raises(ClosedError, match="the bus was closed"):
                await waiting
        with pytest.raises(ClosedError):
            await rig.bus.publish("t", Note(3))
        with pytest.raises(ClosedError):
            rig.bus.subscribe("t", "g", "b")
        assert ((await rig.ledger("g")).pending, (await rig.ledger("g")).refused) == (1, 1)

    @with_topic(TopicPolicy())
    async def test_a_snapshot_changes_nothing_and_does_not_change(self, rig: Rig) -> None:
        rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        first = await rig.metrics()
        assert await rig.metrics() == first
        await rig.publish("t", [2])
        assert await rig.metrics() != first
