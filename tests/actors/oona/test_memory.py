"""What is particular to the memory back end: hand-over at once, fair tasks, bounded housekeeping."""

import asyncio

import pytest

from actors.oona.bus import Bus
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
    on_a_new_loop,
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

    @with_topic(WAIT)
    async def test_cancelled_after_the_hand_over_the_message_is_on_its_way(self, rig: Rig) -> None:
        consumer = rig.bus.subscribe("t", "g", "a")
        await rig.publish("t", [0])
        parked = await rig.start(rig.bus.publish("t", Note(1)))
        (first,) = await consumer.receive()
        first.ack()
        parked.cancel()
        await asyncio.wait([parked])
        assert parked.cancelled()
        assert await rig.ack_all(consumer) == [1]

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
