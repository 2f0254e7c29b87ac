"""What is particular to the memory back end: breakers, hand-over of room, fairness, bounded housekeeping."""

import asyncio

import pytest

from actors.oona.breaker import BreakerState
from actors.oona.bus import Bus, Outcome
from actors.oona.errors import BreakerOpenError, QueueFullError, WaitExpiredError
from actors.oona.exchange import Exchange
from actors.oona.memory import MemoryBus
from actors.oona.policy import BusConfig, Overflow, TopicPolicy
from actors.oona.priority import Priority
from tests.actors.oona.rig import (
    HandClock,
    MakeBus,
    Note,
    Play,
    Rig,
    notes,
    on_a_new_loop,
    settle,
    start,
    with_topic,
)
from tests.actors.oona.test_memory_conformance import memory_bus

WAIT = TopicPolicy(
    groups=("g",), capacity=1, overflow=Overflow.WAIT, wait_max_s=1, ack_deadline_s=500, stall_after_s=None
)
CALM = TopicPolicy(groups=("g",), stall_after_s=None)


class TestMemory:
    @pytest.fixture
    def make_bus(self) -> MakeBus:
        return memory_bus

    @pytest.fixture
    def play(self) -> Play:
        return on_a_new_loop

    # The breaker on waiting to publish

    @with_topic(WAIT)
    async def test_after_three_publishers_waited_in_vain_nobody_waits(self, rig: Rig) -> None:
        await trip(rig)
        assert rig.bus.metrics().topics[0].breaker is BreakerState.OPEN
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
        assert rig.bus.metrics().topics[0].breaker is BreakerState.CLOSED

    @with_topic(WAIT)
    async def test_a_message_that_is_taken_ends_the_row(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        for _ in range(3):
            await rig.publish("t", [0])
            parked = [await start(rig.bus.publish("t", Note(n))) for n in (1, 2)]
            await rig.let_pass(1.2)
            assert [type(task.exception()) for task in parked] == [WaitExpiredError] * 2
            await rig.ack_all(consumer)
        assert rig.bus.metrics().topics[0].breaker is BreakerState.CLOSED

    @with_topic(WAIT)
    async def test_after_its_rest_one_publisher_waits_as_a_probe(self, rig: Rig) -> None:
        await trip(rig)
        await rig.let_pass(30)
        probe = await start(rig.bus.publish("t", Note(4)))
        with pytest.raises(BreakerOpenError):
            await rig.bus.publish("t", Note(5))
        probe.cancel()
        await asyncio.wait([probe])
        again = await start(rig.bus.publish("t", Note(6)))
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
        assert rig.bus.metrics().topics[0].consumers_open == ("g/broken",)
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
        assert rig.ledger("g").dead_lettered == 1
        assert rig.bus.metrics().topics[0].consumers_open == ()

    @with_topic(CALM)
    async def test_giving_back_without_an_error_breaks_nothing(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", range(9))
        for delivery in await rig.drain(consumer):
            delivery.nack(delay_s=0)
        assert await rig.ack_all(consumer) == [8, 7, 6, 5, 4, 3, 2, 1, 0]

    # Hand-over

    @with_topic(WAIT)
    async def test_nobody_overtakes_those_who_wait(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = await start(rig.bus.publish("t", Note(1)))
        (first,) = await consumer.receive()
        first.ack()
        with pytest.raises(QueueFullError):
            rig.bus.publish_nowait("t", Note(2))
        assert (await parked).outcome is Outcome.ACCEPTED
        assert await rig.ack_all(consumer) == [1]

    @with_topic(WAIT)
    async def test_cancelled_after_the_hand_over_the_message_is_on_its_way(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = await start(rig.bus.publish("t", Note(1)))
        (first,) = await consumer.receive()
        first.ack()
        parked.cancel()
        await asyncio.wait([parked])
        assert parked.cancelled()
        assert await rig.ack_all(consumer) == [1]

    @with_topic(WAIT)
    async def test_of_two_waiting_publishers_with_one_id_one_is_a_duplicate(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = [await start(rig.bus.publish("t", Note(1), event_id="one")) for _ in range(2)]
        await settle()
        assert [await rig.ack_all(consumer) for _ in range(3)] == [[0], [1], []]
        assert [(await task).outcome for task in parked] == [Outcome.ACCEPTED, Outcome.DUPLICATE]

    @with_topic(TopicPolicy(capacity=1, overflow=Overflow.WAIT))
    async def test_when_the_last_group_ends_those_who_waited_for_it_are_unrouted(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = await start(rig.bus.publish("t", Note(1)))
        consumer.close()
        assert (await parked).outcome is Outcome.UNROUTED

    # Fairness and bounds

    @with_topic(CALM, BusConfig(slice_messages=8))
    async def test_neither_a_busy_publisher_nor_a_busy_consumer_keeps_the_loop(self, rig: Rig) -> None:
        turns = 0

        async def bystander() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(bystander())
        await rig.publish("t", range(80))
        assert turns >= 10
        turns = 0
        consumer = rig.bus.subscribe("t", "g", "a")
        for _ in range(80):
            for delivery in await consumer.receive():
                delivery.ack()
        task.cancel()
        assert turns >= 9

    @with_topic(TopicPolicy(), BusConfig(groups_max=1, consumers_max=1))
    async def test_groups_and_consumers_are_bounded(self, rig: Rig) -> None:
        rig.bus.subscribe("t", "g", "a")
        with pytest.raises(ValueError, match="consumers_max"):
            rig.bus.subscribe("t", "g", "b")
        with pytest.raises(ValueError, match="groups_max"):
            rig.bus.subscribe("t", "h", "a")
        assert rig.bus.metrics().topics[0].consumers == ("g/a",)

    @with_topic(CALM)
    async def test_what_makes_no_sense_is_refused_and_changes_nothing(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [1])
        before = rig.bus.metrics()
        with pytest.raises(ValueError, match="would receive nothing"):
            await consumer.receive(0)
        with pytest.raises(ValueError, match="would expire at once"):
            await rig.bus.publish("t", Note(2), ttl_s=0)
        with pytest.raises(ValueError, match="one or more, each once"):
            rig.bus.subscribe(["t", "t"], "g", "b")
        assert rig.bus.metrics() == before
        (delivery,) = await consumer.receive()
        with pytest.raises(ValueError, match="delay_s 601 is out of range; it takes 0 to 600 s"):
            delivery.nack(delay_s=601)
        with pytest.raises(ValueError, match="deadline_s 0 is out of range"):
            delivery.extend(0)
        delivery.ack()
        assert rig.ledger("g").late == 0


def test_topics_take_turns() -> None:
    async def scenario() -> None:
        async with memory_bus({"t": TopicPolicy(), "u": TopicPolicy()}) as rig:
            consumer = rig.bus.subscribe(["t", "u"], "g", "a")
            for topic in ("t", "u"):
                await rig.publish(topic, range(10))
            topics = [(await consumer.receive())[0].topic for _ in range(10)]
            assert topics.count("t") == topics.count("u") == 5

    asyncio.run(scenario())


def test_one_round_of_housekeeping_moves_a_bounded_number_of_messages() -> None:
    policy = TopicPolicy(groups=("g",), ttl_s=1, stall_after_s=None)
    exchange = Exchange({"t": policy, "u": policy}, BusConfig(tick_work_max=10), lambda: "x")
    for name in ("t", "u"):
        for n in range(25):
            exchange.offer(exchange.publication(name, Note(n), Priority.NORMAL, f"{n}", None, 0), 0)
    depths = []
    while exchange.tick(5.0):
        depths.append(exchange.load.depth)
    assert depths == [40, 30, 20, 10, 0]


def test_the_memory_bus_is_a_bus() -> None:
    bus: Bus = MemoryBus({}, HandClock())
    assert bus.metrics().closes()


async def trip(rig: Rig) -> None:
    """Fill the topic and let three publishers wait in vain."""
    await rig.publish("t", [0])
    parked = [await start(rig.bus.publish("t", Note(n))) for n in (1, 2, 3)]
    await rig.let_pass(1.2)
    for task in parked:
        with pytest.raises(WaitExpiredError):
            await task
