"""Answers that are lost between two batches under way, that answer another batch, or that break the link."""

import asyncio
import logging

import msgspec
import pytest

from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import ClosedError, UncertainError
from actors.oona.redis.batches import Batch
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.call import Ask, Call, Order
from actors.oona.redis.connection import LostError
from actors.oona.redis.link import _answer_to
from actors.oona.redis.wire import Head, Reply, decoder
from tests.actors.oona.faults.proxy import Proxy
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_rig import until
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import Note
from tests.actors.oona.test_redis_link import opened

BATCH = 4


async def published(bus: RedisBus, ids: list[str]) -> list[Receipt | BaseException]:
    """All at the same moment, so in batches of `BATCH`, of which two are under way."""
    publishes = (bus.publish("t", Note(n), event_id=each) for n, each in enumerate(ids))
    return await asyncio.gather(*publishes, return_exceptions=True)


async def drained(bus: RedisBus, count: int) -> set[str]:
    """The ids of so many messages, acknowledged."""
    seen: set[str] = set()
    async with asyncio.timeout(PATIENCE_S), bus.subscribe("t", "g", "c") as consumer:
        while len(seen) < count:
            for delivery in await consumer.receive(50):
                seen.add(delivery.event_id)
                delivery.ack()
    return seen


def test_acknowledged_messages_outlive_a_loss_of_data_and_of_the_answer_behind_the_one_that_tells_of_it(
    own_redis: RedisServer,
) -> None:
    async def scenario() -> None:
        async with Proxy(own_redis.port) as line:
            bus = await opened(line.address, "data lost", batch_ops_max=BATCH)
            before = [f"before {n}" for n in range(10)]
            assert all(isinstance(each, Receipt) for each in await published(bus, before))
            connections = line.connections
            own_redis.execute("FLUSHALL")
            line.cut_after_answer = True
            await published(bus, [f"then {n}" for n in range(2 * BATCH)])
            assert not line.cut_after_answer
            assert await bus.link.risen(PATIENCE_S)
            assert line.connections > connections, "it was cut behind the first of two answers"
            after = await published(bus, ["after"])
            assert isinstance(after[0], Receipt)
            assert await drained(bus, 11 + 2 * BATCH) >= {*before, "after"}
            await bus.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("second", [1, BATCH])
def test_an_answer_to_another_batch_is_never_taken_for_the_one_that_is_missing(
    redis_server: RedisServer, second: int
) -> None:
    """The first batch's answer vanishes; the second's, of fewer results or as many, comes in its place."""

    async def scenario() -> None:
        async with Proxy(redis_server.port) as line:
            namespace = f"answer lost before {second}"
            bus = await opened(line.address, namespace, batch_ops_max=BATCH)
            known = [f"known {n}" for n in range(second)]
            fresh = [f"fresh {n}" for n in range(BATCH)]
            await published(bus, known)
            await until(lambda: bus.link.idle)
            line.lose_answer = True
            answers = await published(bus, fresh + known)
            assert not line.lose_answer
            outcomes = [Outcome.ACCEPTED] * BATCH + [Outcome.DUPLICATE] * second
            for answer, outcome in zip(answers, outcomes, strict=True):
                assert isinstance(answer, UncertainError | Receipt)
                assert isinstance(answer, UncertainError) or answer.outcome is outcome
            assert any(isinstance(answer, UncertainError) for answer in answers)
            assert await bus.link.risen(PATIENCE_S)
            again = await published(bus, fresh)
            assert all(isinstance(each, Receipt) and each.outcome is Outcome.DUPLICATE for each in again)
            assert await drained(bus, BATCH + second) == {*fresh, *known}
            await bus.close()

    asyncio.run(scenario())


def test_an_answer_is_of_its_batch_only_with_its_number_and_a_result_for_each_operation() -> None:
    batch = Batch(7, [Order(("a",)), Order(("b",))], introduction=False)

    def reply(number: int, status: str, count: int) -> Reply:
        return Reply(Head(status, "g", number, False, "", 0, 0, 0), [msgspec.Raw(b"\xc3")] * count, [])

    for right in (reply(7, "ok", 2), reply(7, "order", 0)):
        assert _answer_to(batch, right) is right
    for number in (6, 8):
        with pytest.raises(LostError, match=f"answer to batch {number}"):
            _answer_to(batch, reply(number, "ok", 2))
    for count in (0, 1, 3):
        with pytest.raises(ValueError, match=f"{count} results for 2"):
            _answer_to(batch, reply(7, "ok", count))


class Mistaken(Call):
    """Its answer makes the link's task fail."""

    def write(self, blobs: list[bytes]) -> tuple[str, str, list[str]]:
        return ("settled", "t", [])

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        raise RuntimeError("a mistake of ours")


def test_a_bus_whose_link_failed_says_why_it_is_closed_to_all_who_use_it(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bus = await opened(redis_server.address, "link failed")
        consumer = bus.subscribe("t", "g", "c")
        await bus.flush()
        waits = asyncio.create_task(consumer.receive())
        await until(lambda: bus.link.idle)
        behind = Ask(("settled", "t", []), decoder(msgspec.Raw))
        bus.link.submit(Mistaken())
        bus.link.submit(behind)
        with pytest.raises(UncertainError, match="a mistake of ours"):
            await behind.answer
        with pytest.raises(ClosedError, match="a mistake of ours"):
            await asyncio.wait_for(waits, PATIENCE_S)
        for use in (
            lambda: bus.publish_nowait("t", Note(1)),
            lambda: bus.subscribe("t", "g", "d"),
        ):
            with pytest.raises(ClosedError, match="a mistake of ours"):
                use()
        with pytest.raises(ClosedError, match="a mistake of ours"):
            await bus.publish("t", Note(1))
        with pytest.raises(ClosedError, match="a mistake of ours"):
            await bus.history("t")
        await bus.keep_house()
        await bus.refresh()
        await bus.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert [record.name for record in caplog.records] == ["actors.oona.redis.link"]
    assert "a mistake of ours" in caplog.text
