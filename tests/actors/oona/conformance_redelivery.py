"""Conformance: what happens to a message that is not acknowledged."""

import asyncio
from itertools import pairwise

import pytest

from actors.oona.errors import (
    ClosedError,
)
from actors.oona.policy import TopicPolicy
from tests.actors.oona.rig import Note, Rig, notes, with_topic

DECLARED = TopicPolicy(groups=("g",), stall_after_s=None)


class RedeliveryConformance:
    """What happens to a message that is not acknowledged."""

    @with_topic(DECLARED)
    async def test_after_the_deadline_and_a_backoff_another_consumer_gets_it(self, rig: Rig) -> None:
        silent = rig.bus.subscribe("t", "g", "silent")
        await rig.publish("t", [1])
        (held,) = await silent.receive()
        other = rig.bus.subscribe("t", "g", "other")
        await rig.let_pass(5.15)
        assert await rig.drain(other) == []
        await rig.let_pass(0.4)
        (again,) = await rig.drain(other)
        assert (again.event_id, again.attempt, held.attempt) == (held.event_id, 2, 1)
        again.ack()
        assert (await rig.ledger("g")).acked == 1

    @with_topic(DECLARED)
    async def test_the_backoff_grows_and_attempts_end(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        moments = []
        for tick in range(200):
            for delivery in await rig.drain(consumer):
                moments.append(tick / 10)
                delivery.nack(error="no")
            await rig.let_pass(0.1)
        gaps = [later - sooner for sooner, later in pairwise(moments)]
        assert gaps == pytest.approx([0.25, 1.0, 4.0, 4.0], abs=0.25)
        assert (await rig.ledger("g")).dead_lettered == 1

    @with_topic(DECLARED)
    async def test_a_poison_message_dies_with_its_last_error_and_spares_its_neighbours(
        self, rig: Rig
    ) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0, 13, 2])
        handled = []
        for _ in range(30):
            for delivery in await rig.drain(consumer):
                (n,) = notes([delivery])
                if n == 13:
                    with pytest.raises(ArithmeticError), delivery:
                        raise ArithmeticError(f"attempt {delivery.attempt}")
                else:
                    delivery.ack()
                    handled.append((n, delivery.attempt))
            await rig.let_pass(0.5)
        (letter,) = await rig.bus.dead_letters.list()
        assert handled == [(0, 1), (2, 1)]
        assert (letter.message, letter.attempts) == (Note(13), 5)
        assert letter.last_error == "ArithmeticError: attempt 5"

    @with_topic(DECLARED)
    async def test_a_nack_may_name_its_delay(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        (await consumer.receive())[0].nack(delay_s=30)
        await rig.let_pass(29)
        assert await rig.drain(consumer) == []
        await rig.let_pass(1.2)
        assert await rig.ack_all(consumer) == [1]

    @with_topic(DECLARED)
    async def test_a_message_given_back_at_once_goes_to_a_consumer_that_waits(self, rig: Rig) -> None:
        one = rig.bus.subscribe("t", "g", "one")
        two = rig.bus.subscribe("t", "g", "two")
        await rig.publish("t", [1])
        (delivery,) = await one.receive()
        waiting = asyncio.create_task(two.receive())
        await rig.settle()
        delivery.nack(delay_s=0)
        (again,) = await waiting
        assert (again.event_id, again.attempt) == (delivery.event_id, 2)

    @with_topic(DECLARED)
    async def test_redeliveries_due_together_come_in_order_and_before_what_is_new(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", range(3))
        zero, one, two = await consumer.receive(3)
        for delivery in (one, zero, two):
            delivery.nack(delay_s=1)
        await rig.publish("t", [3])
        await rig.let_pass(1.2)
        assert await rig.ack_all(consumer) == [0, 1, 2, 3]

    @with_topic(DECLARED)
    async def test_an_extension_keeps_the_message(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        (delivery,) = await consumer.receive()
        delivery.extend(60)
        await rig.let_pass(59)
        assert (await rig.ledger("g")).redelivered == 0
        delivery.extend(60)
        await rig.let_pass(59)
        delivery.ack()
        assert ((await rig.ledger("g")).acked, (await rig.ledger("g")).late) == (1, 0)

    @with_topic(DECLARED)
    async def test_an_extension_that_runs_out_gives_the_message_back(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        (await consumer.receive())[0].extend(10)
        await rig.let_pass(10.6)
        assert [d.attempt for d in await rig.drain(consumer)] == [2]

    @with_topic(DECLARED)
    async def test_a_late_acknowledgement_settles_what_is_unsettled(self, rig: Rig) -> None:
        slow = rig.bus.subscribe("t", "g", "slow")
        await rig.publish("t", [1])
        (delivery,) = await slow.receive()
        await rig.let_pass(5.2)
        delivery.ack()
        await rig.let_pass(10)
        assert await rig.drain(slow) == []
        assert (
            (await rig.ledger("g")).acked,
            (await rig.ledger("g")).late,
            (await rig.ledger("g")).pending,
        ) == (1, 1, 0)

    @with_topic(DECLARED)
    async def test_who_no_longer_holds_a_message_cannot_give_it_back_or_keep_it(self, rig: Rig) -> None:
        slow = rig.bus.subscribe("t", "g", "slow")
        await rig.publish("t", [1])
        (first,) = await slow.receive()
        await rig.let_pass(5.6)
        (second,) = await slow.receive()
        first.nack(delay_s=0)
        first.extend(60)
        assert await rig.drain(slow) == []
        second.ack()
        second.ack()
        assert ((await rig.ledger("g")).acked, (await rig.ledger("g")).late) == (1, 3)

    @with_topic(DECLARED)
    async def test_what_a_consumer_held_when_it_left_goes_to_the_others(self, rig: Rig) -> None:
        leaving = rig.bus.subscribe("t", "g", "leaving")
        staying = rig.bus.subscribe("t", "g", "staying")
        await rig.publish("t", range(3))
        await leaving.receive(2)
        leaving.close()
        await rig.let_pass(6)
        assert sorted(await rig.ack_all(staying)) == [0, 1, 2]
        with pytest.raises(ClosedError, match="subscribe again"):
            await leaving.receive()

    @with_topic(DECLARED)
    async def test_a_block_that_ends_well_acknowledges_and_one_that_is_cancelled_gives_back(
        self, rig: Rig
    ) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1, 2])
        first, second = await consumer.receive(2)
        with first:
            pass
        with pytest.raises(asyncio.CancelledError), second:
            raise asyncio.CancelledError
        (again,) = await rig.drain(consumer)
        assert (again.message, again.attempt) == (Note(2), 2)
        assert (await rig.ledger("g")).acked == 1

    @with_topic(TopicPolicy(groups=("g",), ttl_s=10, stall_after_s=None))
    async def test_a_message_expires_when_its_time_to_live_is_over(self, rig: Rig) -> None:
        await rig.publish("t", [1])
        await rig.bus.publish("t", Note(2), ttl_s=30)
        await rig.let_pass(10.2)
        assert (await rig.ledger("g")).expired == 1
        assert await rig.ack_all(rig.bus.subscribe("t", "g", "a")) == [2]

    @with_topic(TopicPolicy(groups=("g",), ttl_s=3, stall_after_s=None))
    async def test_a_message_in_hand_does_not_expire_but_is_not_delivered_again(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1, 2])
        done, failed = await consumer.receive(2)
        await rig.let_pass(4)
        done.ack()
        failed.nack(error="no")
        await rig.let_pass(10)
        assert await rig.drain(consumer) == []
        assert ((await rig.ledger("g")).acked, (await rig.ledger("g")).expired) == (1, 1)
