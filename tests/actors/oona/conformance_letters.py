"""Conformance: what may be done with a message that was given up."""

import pytest

from actors.oona.errors import (
    QueueFullError,
    UnknownLetterError,
)
from actors.oona.policy import TopicPolicy
from tests.actors.oona.rig import Note, Rig, with_topic

DECLARED = TopicPolicy(groups=("g",), stall_after_s=None)


class DeadLetterConformance:
    """What may be done with a message that was given up."""

    POLICY = TopicPolicy(groups=("g", "h"), attempts_max=1, stall_after_s=None)

    @with_topic(POLICY)
    async def test_dead_letters_are_listed_by_topic_and_group_and_inspected(self, rig: Rig) -> None:
        ids = [await kill(rig, n) for n in (1, 2)]
        letters = rig.bus.dead_letters
        assert [letter.letter_id for letter in await letters.list("t", "g")] == ids
        assert list(await letters.list(group="h")) == []
        letter = await letters.inspect(ids[0])
        assert (letter.message, letter.group, letter.last_error) == (Note(1), "g", "boom")

    @with_topic(POLICY)
    async def test_a_replayed_letter_is_delivered_again_to_its_group_only(self, rig: Rig) -> None:
        letter_id = await kill(rig, 1)
        await rig.bus.dead_letters.replay(letter_id)
        (delivery,) = await rig.drain(rig.bus.subscribe("t", "g", "a"))
        assert (delivery.message, delivery.attempt) == (Note(1), 1)
        delivery.ack()
        ledger = await rig.ledger("g")
        assert (ledger.published, ledger.dead_lettered, ledger.replayed, ledger.acked) == (2, 1, 1, 1)
        assert list(await rig.bus.dead_letters.list()) == []
        assert (await rig.ledger("h")).published == 1

    @with_topic(POLICY)
    async def test_a_dropped_letter_is_gone(self, rig: Rig) -> None:
        letter_id = await kill(rig, 1)
        await rig.bus.dead_letters.drop(letter_id)
        for refused in (rig.bus.dead_letters.replay, rig.bus.dead_letters.drop, rig.bus.dead_letters.inspect):
            with pytest.raises(UnknownLetterError, match="no dead letter"):
                await refused(letter_id)
        assert (await rig.ledger("g")).dead_lettered == 1

    @with_topic(TopicPolicy(attempts_max=1))
    async def test_a_letter_of_a_group_that_ended_waits_for_its_return(self, rig: Rig) -> None:
        letter_id = await kill(rig, 1)
        with pytest.raises(UnknownLetterError, match="its group is gone; subscribe to it first"):
            await rig.bus.dead_letters.replay(letter_id)
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.bus.dead_letters.replay(letter_id)
        assert await rig.ack_all(consumer) == [1]

    @with_topic(TopicPolicy(groups=("g",), attempts_max=1, capacity=1, stall_after_s=None))
    async def test_a_letter_that_finds_no_room_stays(self, rig: Rig) -> None:
        letter_id = await kill(rig, 1)
        await rig.publish("t", [2])
        with pytest.raises(QueueFullError, match="stays a dead letter"):
            await rig.bus.dead_letters.replay(letter_id)
        assert (await rig.bus.dead_letters.inspect(letter_id)).message == Note(1)

    @with_topic(TopicPolicy(groups=("g",), attempts_max=1, dead_letters_max=1, retention_s=60))
    async def test_letters_are_bounded_in_number_and_age(self, rig: Rig) -> None:
        for n in (1, 2):
            letter_id = await kill(rig, n)
        assert [letter.letter_id for letter in await rig.bus.dead_letters.list()] == [letter_id]
        await rig.let_pass(61)
        assert list(await rig.bus.dead_letters.list()) == []
        assert (await rig.metrics()).topics[0].dead_letters_let_go == 2


async def kill(rig: Rig, n: int) -> str:
    """Publish a note and let group g give it up; the id of its letter."""
    consumer = rig.bus.subscribe("t", "g", "killer")
    await rig.publish("t", [n])
    (delivery,) = await consumer.receive()
    delivery.nack(error="boom")
    consumer.close()
    await rig.settle()
    return (await rig.bus.dead_letters.list())[-1].letter_id
