"""What consumers, messages and full queues do to a bus, in memory and on Redis: every effect happens once."""

import asyncio
import random

import pytest

from actors.oona.bus import Bus, Outcome
from actors.oona.errors import RefusedError
from actors.oona.metrics import BusMetrics
from actors.oona.policy import Overflow
from tests.actors.oona.faults.clients import MakeClients, one_topic
from tests.actors.oona.faults.ledger import FaultLedger
from tests.actors.oona.faults.load import Consumer, Publisher, settled, until
from tests.actors.oona.faults.work import GROUP, TOPIC, Work

COUNT = 200


def test_consumers_that_forget_and_give_back(make_clients: MakeClients, back_end: str, seed: int) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"forgetful consumers, {back_end}", seed)
        async with make_clients(one_topic(ack_deadline_s=0.1, backoff_s=(0.01,))) as clients:
            here, there = await clients.open(), await clients.open()
            consumers = [Consumer(there, ledger, rng, f"c{i}") for i in range(3)]
            for consumer in consumers:
                consumer.forget_share = consumer.nack_share = 0.15
                consumer.start()
            publishers = [Publisher(here, ledger, rng) for _ in range(2)]
            await asyncio.gather(*(each.publish(range(i, COUNT, 2)) for i, each in enumerate(publishers)))
            await settled(ledger, here, there)
            for consumer in consumers:
                await consumer.stop()
        counts = ledger.close()
        assert counts.effects == COUNT
        assert ledger.repeats() > 0, "some were delivered twice, and had their effect once"

    asyncio.run(scenario())


def test_duplicates_from_two_publishers_are_delivered_once(
    make_clients: MakeClients, back_end: str, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"duplicates, {back_end}", seed)
        async with make_clients(one_topic(ack_deadline_s=30.0)) as clients:
            one, two = await clients.open(), await clients.open()
            consumer = Consumer(two, ledger, rng, "c").start()
            numbers = [n for n in range(COUNT // 2) for _ in range(rng.randint(1, 2))]
            publishers = [Publisher(bus, ledger, rng) for bus in (one, two)]
            for publisher in publishers:
                publisher.urgent_share = 0.0
            await asyncio.gather(*(each.publish(rng.sample(numbers, len(numbers))) for each in publishers))
            await settled(ledger, one, two)
            ids = list(ledger.numbers)
            again = [await two.publish(TOPIC, Work(ledger.numbers[each]), event_id=each) for each in ids]
            assert {receipt.outcome for receipt in again} == {Outcome.DUPLICATE}
            await settled(ledger, one, two)
            await consumer.stop()
        assert ledger.close().delivered == COUNT // 2
        assert ledger.repeats() == 0

    asyncio.run(scenario())


def test_a_poison_message_becomes_a_dead_letter_and_harms_no_neighbour(
    make_clients: MakeClients, back_end: str, seed: int
) -> None:
    attempts = 3

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"poison, {back_end}", seed)
        poison = set(rng.sample(range(COUNT), 5))
        tried: list[int] = []
        policy = one_topic(attempts_max=attempts, backoff_s=(0.01,), ack_deadline_s=30.0)
        async with make_clients(policy) as clients:
            here, there = await clients.open(), await clients.open()

            async def consume() -> None:
                async with there.subscribe(TOPIC, GROUP, "c") as subscription:
                    while True:
                        for delivery in await subscription.receive(16):
                            assert isinstance(delivery.message, Work)
                            n = delivery.message.n
                            if n in poison:
                                tried.append(n)
                                delivery.nack(error="it is poison")
                            else:
                                ledger.came(delivery.event_id, n)
                                ledger.did(delivery.event_id, by=there)
                                delivery.ack()

            eating = asyncio.create_task(consume())
            await Publisher(here, ledger, rng).publish(range(COUNT))
            await until(lambda: len(tried) == attempts * len(poison), "the last attempts")
            dead = {f"w{n}" for n in poison}
            await until(lambda: ledger.missing <= dead, "the neighbours")
            await settled_but(ledger, dead, here, there)
            letters = await here.dead_letters.list(TOPIC, GROUP)
            assert {letter.event_id for letter in letters} == dead
            assert {(letter.attempts, letter.last_error) for letter in letters} == {
                (attempts, "it is poison")
            }
            assert ledger.repeats() == 0, "a neighbour had to come twice"
            healed, poison_was = letters[0], set(poison)
            assert isinstance(healed.message, Work)
            poison.discard(healed.message.n)
            await there.dead_letters.replay(healed.letter_id)
            await until(lambda: ledger.missing == dead - {healed.event_id}, "the replayed one")
            eating.cancel()
            await asyncio.wait({eating})
        ledger.close(excused=dead)
        assert len(tried) == attempts * len(poison_was)

    asyncio.run(scenario())


async def settled_but(ledger: FaultLedger, dead: set[str], *clients: Bus) -> None:
    """Like `settled`, when some are dead letters."""
    kept = ledger.acknowledged & dead
    ledger.acknowledged -= dead
    await settled(ledger, *clients)
    ledger.acknowledged |= kept


@pytest.mark.parametrize("overflow", Overflow)
def test_a_slow_consumer_costs_what_the_policy_says_and_nothing_else(
    make_clients: MakeClients, back_end: str, overflow: Overflow, seed: int
) -> None:
    topics = one_topic(
        overflow=overflow,
        capacity=20,
        urgent_capacity=20,
        reroute_capacity=10,
        ack_deadline_s=30.0,
        wait_max_s=30.0,
    )

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"slow consumer, {overflow.value}, {back_end}", seed)
        async with make_clients(topics) as clients:
            here, there = await clients.open(), await clients.open()
            consumer = Consumer(there, ledger, rng, "c")
            consumer.pause_s = 0.01
            publishers = [Publisher(here, ledger, rng) for _ in range(4)]
            for each in publishers:
                each.urgent_share, each.give_up_share = 0.0, 0.3
            publishing = asyncio.gather(
                *(each.publish(range(i, COUNT, len(publishers))) for i, each in enumerate(publishers))
            )
            while True:
                if overflowed(await here.refresh(), overflow):
                    break
                await asyncio.sleep(0)
            consumer.start()
            await publishing
            excused = await drained(ledger, here, there)
            await consumer.stop()
        counts = ledger.close(excused_max=excused)
        assert counts.effects + excused >= counts.acknowledged
        assert ledger.repeats() == 0

    asyncio.run(scenario())


async def drained(ledger: FaultLedger, here: Bus, there: Bus) -> int:
    """Until nothing is on its way; how many were let go by the topic's rule."""
    while True:
        await here.flush()
        metrics = await here.refresh()
        outbox = metrics.link.outbox if metrics.link else 0
        if not outbox and not metrics.depth:
            break
        await asyncio.sleep(0.005)
    await there.flush()
    metrics = await here.refresh()
    assert metrics.closes()
    lost_here = metrics.link.outbox_lost if metrics.link else 0
    return lost_here + sum(row.ledger.dropped for row in metrics.groups)


def overflowed(metrics: BusMetrics, overflow: Overflow) -> bool:
    """Whether the policy was put to the test."""
    topics = [row.ledger for row in metrics.published]
    match overflow:
        case Overflow.WAIT:
            return metrics.topics[0].parked_max > 0
        case Overflow.REJECT:
            return sum(each.refused for each in topics) > 0
        case Overflow.DROP_OLDEST:
            return sum(row.ledger.dropped for row in metrics.groups) > 0
        case Overflow.REROUTE:
            return sum(each.rerouted for each in topics) > 0


def test_a_refusal_is_final_until_it_is_tried_again(make_clients: MakeClients) -> None:
    async def scenario() -> None:
        async with make_clients(one_topic(overflow=Overflow.REJECT, capacity=1)) as clients:
            bus = await clients.open()
            await bus.publish(TOPIC, Work(0), event_id="w0")
            with pytest.raises(RefusedError):
                await bus.publish(TOPIC, Work(1), event_id="w1")
            async with bus.subscribe(TOPIC, GROUP, "c") as subscription:
                (first,) = await subscription.receive(10)
                first.ack()
                await bus.flush()
                assert await subscription.receive(10, wait_s=0) == []
                await bus.publish(TOPIC, Work(1), event_id="w1")
                (second,) = await subscription.receive(10)
                assert (first.event_id, second.event_id) == ("w0", "w1")
                second.ack()

    asyncio.run(scenario())
