"""Conformance: what repeated failure stops, for publishers that wait and for consumers."""

import asyncio

import pytest

from actors.oona.errors import BreakerOpenError, WaitExpiredError
from actors.oona.policy import Overflow, TopicPolicy
from actors.oona.priority import Priority
from esper.breaker import BreakerState
from tests.actors.oona.rig import Note, Rig, notes, with_topic

WAIT = TopicPolicy(
    groups=("g",), capacity=1, overflow=Overflow.WAIT, wait_max_s=1, ack_deadline_s=500, stall_after_s=None
)
CALM = TopicPolicy(groups=("g",), stall_after_s=None)


class BreakerConformance:
    """What repeated failure stops."""

    # The breaker on waiting to publish

    @with_topic(WAIT)
    async def test_after_three_publishers_waited_in_vain_nobody_waits(self, rig: Rig) -> None:
        await trip(rig)
        assert (await rig.metrics()).topics[0].breaker is BreakerState.OPEN
        with pytest.raises(BreakerOpenError, match=r"3 did in vain, one after the other; try again in 2\d"):
            await rig.bus.publish("t", Note(4))
        await rig.bus.publish("t", Note(5), priority=Priority.CRITICAL)

    @with_topic(WAIT)
    async def test_while_the_breaker_is_open_a_message_with_room_is_taken_and_closes_it(
        self, rig: Rig
    ) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await trip(rig)
        await rig.ack_all(consumer)
        await rig.publish("t", [4])
        assert (await rig.metrics()).topics[0].breaker is BreakerState.CLOSED

    @with_topic(WAIT)
    async def test_a_message_that_is_taken_ends_the_row(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        for _ in range(3):
            await rig.publish("t", [0])
            parked = [await rig.start(rig.bus.publish("t", Note(n))) for n in (1, 2)]
            await rig.let_pass(1.2)
            assert [type(task.exception()) for task in parked] == [WaitExpiredError] * 2
            await rig.ack_all(consumer)
        assert (await rig.metrics()).topics[0].breaker is BreakerState.CLOSED

    @with_topic(WAIT)
    async def test_after_its_rest_one_publisher_waits_as_a_probe(self, rig: Rig) -> None:
        await trip(rig)
        await rig.let_pass(30)
        probe = await rig.start(rig.bus.publish("t", Note(4)))
        with pytest.raises(BreakerOpenError):
            await rig.bus.publish("t", Note(5))
        probe.cancel()
        await asyncio.wait([probe])
        again = await rig.start(rig.bus.publish("t", Note(6)))
        await rig.let_pass(1.2)
        with pytest.raises(WaitExpiredError):
            await again
        with pytest.raises(BreakerOpenError):
            await rig.bus.publish("t", Note(7))

    # The breaker of a consumer

    @with_topic(CALM)
    async def test_a_consumer_that_fails_three_messages_in_a_row_gets_urgent_ones_only(
        self, rig: Rig
    ) -> None:
        broken = rig.bus.subscribe("t", "g", "broken")
        await rig.publish("t", range(4))
        for delivery in await broken.receive(3):
            delivery.nack(error="no")
        assert (await rig.metrics()).topics[0].consumers_open == ("g/broken",)
        assert await rig.drain(broken) == []
        await rig.bus.publish("t", Note(9), priority=Priority.CRITICAL)
        assert notes(await broken.receive(9)) == [9]
        sound = rig.bus.subscribe("t", "g", "sound")
        assert await rig.ack_all(sound) == [3]
        await rig.let_pass(1)
        assert sorted(await rig.ack_all(sound)) == [0, 1, 2]

    @with_topic(CALM)
    async def test_a_broken_consumer_is_tried_again_with_one_message(self, rig: Rig) -> None:
        broken = rig.bus.subscribe("t", "g", "broken")
        await rig.publish("t", range(5))
        for delivery in await broken.receive(3):
            delivery.nack(delay_s=0, error="no")
        waiting = asyncio.create_task(broken.receive(9))
        await rig.let_pass(29)
        assert not waiting.done()
        await rig.let_pass(1.2)
        (probe,) = await waiting
        assert await rig.drain(broken) == []
        probe.ack()
        assert len(await rig.ack_all(broken)) == 4

    @with_topic(TopicPolicy(groups=("g",), stall_after_s=None, attempts_max=9))
    async def test_a_probe_that_failed_before_opens_the_breaker_again(self, rig: Rig) -> None:
        broken = rig.bus.subscribe("t", "g", "broken")
        await rig.publish("t", range(3))
        for delivery in await broken.receive(3):
            delivery.nack(delay_s=0, error="no")
        await rig.let_pass(30)
        (probe,) = await rig.drain(broken)
        probe.nack(delay_s=0, error="no")
        await rig.let_pass(29)
        assert await rig.drain(broken) == []
        await rig.let_pass(1.2)
        assert len(await rig.drain(broken)) == 1

    @with_topic(CALM)
    async def test_a_poison_message_alone_does_not_break_its_consumer(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [13])
        for _ in range(30):
            for delivery in await rig.drain(consumer):
                delivery.nack(error="poison")
            await rig.let_pass(0.5)
        assert (await rig.ledger("g")).dead_lettered == 1
        assert (await rig.metrics()).topics[0].consumers_open == ()

    @with_topic(CALM)
    async def test_giving_back_without_an_error_breaks_nothing(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", range(9))
        for delivery in await rig.drain(consumer):
            delivery.nack(delay_s=0)
        assert sorted(await rig.ack_all(consumer)) == list(range(9))


async def trip(rig: Rig) -> None:
    """Fill the topic and let three publishers wait in vain."""
    await rig.publish("t", [0])
    parked = [await rig.start(rig.bus.publish("t", Note(n))) for n in (1, 2, 3)]
    await rig.let_pass(1.2)
    for task in parked:
        with pytest.raises(WaitExpiredError):
            await task
