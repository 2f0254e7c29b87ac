"""Conformance: groups that hold nobody up."""

import pytest

from actors.oona.errors import QueueFullError
from actors.oona.policy import BusConfig, ConservativePolicy, Overflow, TopicPolicy
from actors.oona.priority import Lane, Priority
from tests.actors.oona.rig import Note, Rig, notes, with_topic


class LossyConformance:
    """Groups that hold nobody up."""

    @with_topic(TopicPolicy(capacity=2, overflow=Overflow.REJECT))
    async def test_a_full_lossy_group_forgets_its_oldest(self, rig: Rig) -> None:
        strict = rig.bus.subscribe("t", "g", "a")
        lossy = rig.bus.subscribe("t", "watching", "w", lossy=True)
        for n in range(5):
            await rig.publish("t", [n])
            assert await rig.ack_all(strict) == [n]
        ledger = await rig.ledger("watching")
        assert (ledger.published, ledger.dropped, ledger.pending) == (5, 3, 2)
        assert await rig.ack_all(lossy) == [3, 4]

    @with_topic(TopicPolicy(capacity=2, overflow=Overflow.WAIT))
    async def test_one_that_has_all_in_hand_goes_without_what_is_new(self, rig: Rig) -> None:
        lossy = rig.bus.subscribe("t", "watching", "w", lossy=True)
        await rig.publish("t", [0, 1])
        held = await lossy.receive(2)
        await rig.publish("t", [2, 3])
        assert await rig.drain(lossy) == []
        ledger = await rig.ledger("watching")
        assert (ledger.published, ledger.dropped, ledger.pending) == (4, 2, 2)
        assert notes(held) == [0, 1]

    @with_topic(TopicPolicy(groups=("g",), capacity=1, overflow=Overflow.REJECT, stall_after_s=None))
    async def test_the_others_hold_up_as_ever(self, rig: Rig) -> None:
        rig.bus.subscribe("t", "watching", "w", lossy=True)
        await rig.publish("t", [0])
        with pytest.raises(QueueFullError, match="group g holds 1 messages"):
            await rig.bus.publish("t", Note(1))
        assert (await rig.ledger("watching")).refused == 1

    @with_topic(
        TopicPolicy(capacity=9, urgent_capacity=2, reroute_capacity=0, stall_after_s=2),
        BusConfig(conservative=ConservativePolicy(high_mark=3, low_mark=1)),
    )
    async def test_neither_what_it_has_nor_for_how_long_makes_the_bus_conservative(self, rig: Rig) -> None:
        rig.bus.subscribe("t", "watching", "w", lossy=True)
        await rig.publish("t", range(9))
        for n in range(3):
            await rig.bus.publish("t", Note(n), priority=Priority.CRITICAL)
        await rig.let_pass(5)
        metrics = await rig.metrics()
        assert (metrics.conservative, metrics.depth) == (False, 0)
        urgent = await rig.ledger("watching", Lane.URGENT)
        assert (urgent.pending, urgent.dropped) == (2, 1)
