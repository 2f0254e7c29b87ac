"""Two batches under way, answers that never come in time, joins said twice, and one deadline for all."""

import asyncio
from contextlib import suppress
from typing import Final

import msgspec
import pytest

from actors.oona.errors import UncertainError, UnreachableError
from actors.oona.policy import TopicPolicy
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.connection import in_time
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.taking import Join
from actors.runtime.clock import LoopClock
from tests.actors.oona.faults.proxy import Proxy
from tests.actors.oona.hand_loop import STEP_S, HandLoop, by_hand
from tests.actors.oona.note_frames import NoteFrames
from tests.actors.oona.patience import PATIENCE_S, PATIENT
from tests.actors.oona.redis_rig import redis_bus, until
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import Note, notes, settle

TOPICS: Final = {"t": TopicPolicy(groups=("g",), stall_after_s=None, ack_deadline_s=0.3, attempts_max=1_000)}


async def until_opened(address: str, namespace: str, **options: float) -> RedisBus:
    """The same, tried until the answers come in time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(UnreachableError):
                return await opened(address, namespace, **options)


async def opened(address: str, namespace: str, **options: float) -> RedisBus:
    """Patient, but for what is said; quick to connect again."""
    quick = msgspec.structs.replace(PATIENT, backoff_first_s=0.005, backoff_max_s=0.01, **options)
    clock = LoopClock(asyncio.get_running_loop())
    return await RedisBus.open(address, namespace, TOPICS, clock, NoteFrames(), options=quick)


def test_a_batch_is_not_executed_before_the_one_ahead_of_it(redis_server: RedisServer) -> None:
    """The script goes, as when somebody flushes it: both under way are refused and come again in order."""

    async def scenario() -> None:
        async with redis_bus(redis_server, TOPICS) as rig:
            for round_ in range(5):
                redis_server.execute("SCRIPT", "FLUSH")
                numbers = range(round_ * 400, (round_ + 1) * 400)
                await asyncio.gather(*(rig.bus.publish("t", Note(n)) for n in numbers))
                consumer = rig.bus.subscribe("t", "g", f"c{round_}")
                assert await rig.ack_all(consumer) == list(numbers)
                consumer.close()
            assert (await rig.ledger("g")).acked == 2_000

    asyncio.run(scenario())


def test_an_answer_that_never_fits_the_deadline_is_given_up_and_asked_for_in_smaller_pieces(
    redis_server: RedisServer,
) -> None:
    count = 200

    async def scenario() -> None:
        async with Proxy(redis_server.port) as line:
            sender = await opened(redis_server.address, "never fits")
            await asyncio.gather(*(sender.publish("t", Note(n)) for n in range(count)))
            bus = await until_opened(line.address, "never fits", deadline_s=0.2)
            house = asyncio.create_task(bus.run_housekeeping())
            consumer = bus.subscribe("t", "g", "slow")
            await until(lambda: bus.link.idle)
            line.bytes_per_s = 50_000.0  # 10 kB within the deadline; all at once would be twice that
            seen: set[int] = set()
            async with asyncio.timeout(PATIENCE_S):
                while len(seen) < count:
                    for delivery in await consumer.receive(512):
                        seen.update(notes([delivery]))
                        delivery.ack()
            line.bytes_per_s = None
            link = bus.metrics().link
            assert link is not None
            assert link.given_up > 0
            house.cancel()
            await bus.close()
            await sender.close()

    asyncio.run(scenario())


def test_a_join_said_twice_by_the_same_process_is_one_join_and_by_another_is_refused(
    redis_server: RedisServer,
) -> None:
    async def scenario() -> None:
        async with redis_bus(redis_server, TOPICS) as rig:
            consumer = rig.bus.subscribe("t", "g", "a")
            assert isinstance(rig.bus, RedisBus)
            await rig.settle()
            rig.bus.link.submit(Join(consumer, "t"))  # type: ignore[arg-type]
            await rig.publish("t", [1])
            assert await rig.ack_all(consumer) == [1]
            namespace = rig.bus.bell._channel.split("{")[1].split("}")[0]
            other = await opened(redis_server.address, namespace, dead_after_s=1e9)
            second = other.subscribe("t", "g", "a")
            with pytest.raises(ValueError, match="already"):
                await second.receive()
            await other.close()

    asyncio.run(scenario())


def test_acknowledgements_stay_in_their_order_with_what_else_is_said(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with redis_bus(redis_server, TOPICS) as rig:
            consumer = rig.bus.subscribe("t", "g", "a")
            await rig.publish("t", range(6))
            taken = await rig.drain(consumer)
            for delivery in taken[:4]:
                delivery.ack()
            taken[4].nack(delay_s=0.0)
            taken[5].ack()
            taken[4].ack()  # late by then, and settled all the same
            ledger = await rig.ledger("g")
            assert (ledger.acked, ledger.late, ledger.pending) == (6, 1, 0)

    asyncio.run(scenario())


def test_a_publisher_that_waited_for_room_here_has_the_rest_of_its_deadline_for_the_answer(
    own_redis: RedisServer,
) -> None:
    async def scenario(loop: HandLoop) -> None:
        bus = await opened(own_redis.address, "one deadline", deadline_s=5.0, outbox_messages_max=4)
        consumer = bus.subscribe("t", "g", "a")
        for n in range(4):
            await bus.publish("t", Note(n))
        taken = await consumer.receive(4)
        waiting = asyncio.create_task(bus.publish("t", Note(5)))
        await loop.let_pass(2.0)
        for delivery in taken:
            delivery.ack()
        await until(lambda: bus.link.idle)
        loop.stand_still(1.0)  # it asks now and then whether there is room
        await until(lambda: bus.post.outbox.messages == 1)
        own_redis.pause()  # it has room now, and has not been sent yet
        await loop.let_pass(1.9)
        assert not waiting.done()
        with pytest.raises(UncertainError):
            await loop.finished(waiting, 0.2)
        own_redis.resume()
        loop.let_go()
        await bus.close()

    by_hand(scenario)


def test_who_stood_still_for_longer_than_the_deadline_still_has_the_slack() -> None:
    options = RedisOptions()

    async def in_its_time(answer: asyncio.Future[None]) -> None:
        async with in_time(options):
            await answer

    async def scenario(loop: HandLoop) -> None:
        answers = [loop.create_future() for _ in range(3)]
        punctual, late, never = (asyncio.create_task(in_its_time(answer)) for answer in answers)
        await loop.let_pass(options.deadline_s - STEP_S)
        assert not punctual.done()
        answers[0].set_result(None)
        await punctual
        loop.stand_still(10 * options.deadline_s)
        await settle()
        answers[1].set_result(None)
        await late
        await loop.let_pass(options.slack_s - STEP_S)
        assert not never.done()
        with pytest.raises(TimeoutError):
            await loop.finished(never, 2 * STEP_S)
        in_vain = asyncio.create_task(in_its_time(loop.create_future()))
        await settle()
        with pytest.raises(TimeoutError):
            await loop.finished(in_vain, options.deadline_s + STEP_S)

    by_hand(scenario)


def test_a_process_that_stands_still_while_it_opens_a_bus_opens_it_all_the_same(
    redis_server: RedisServer,
) -> None:
    """At any moment of it."""

    async def scenario(loop: HandLoop) -> None:
        for turns in range(40):
            quick = RedisOptions()
            opening = asyncio.create_task(
                opened(
                    redis_server.address, "stands still", deadline_s=quick.deadline_s, slack_s=quick.slack_s
                )
            )
            await settle(turns)
            loop.stand_still(10.0)
            await (await opening).close()

    by_hand(scenario)


def test_what_waits_for_a_server_that_comes_back_while_the_bus_is_closed_is_not_lost(
    own_redis: RedisServer,
) -> None:
    async def scenario() -> None:
        bus = await opened(own_redis.address, "closed in between")
        own_redis.kill()
        bus.publish_nowait("t", Note(1))
        await until(lambda: not bus.link.up)
        closing = asyncio.create_task(bus.close())
        await settle()
        own_redis.restart()
        await closing
        assert bus.post.lost == 0
        other = await opened(own_redis.address, "closed in between")
        assert notes(await other.subscribe("t", "g", "a").receive()) == [1]
        await other.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("sign", ["beat", "take", "leave"])
def test_a_consumer_that_was_let_go_does_not_get_its_name_back_from_its_successor(
    redis_server: RedisServer, sign: str
) -> None:
    async def scenario() -> None:
        namespace = f"name taken over, {sign}"
        silent = await opened(redis_server.address, namespace)
        heir = await opened(redis_server.address, namespace, dead_after_s=0.02)
        name = (f"esper:{{{namespace}}}:c:t:g", "a")
        first = silent.subscribe("t", "g", "a")
        await silent.flush()
        async with asyncio.timeout(PATIENCE_S):
            while redis_server.execute("HEXISTS", *name):
                await heir.keep_house()
        second = heir.subscribe("t", "g", "a")
        await heir.flush()
        joined = redis_server.execute("HGET", *name)
        await heir.publish("t", Note(1))
        match sign:
            case "beat":
                await silent.keep_house()
                await silent.flush()
            case "take":
                with pytest.raises(ValueError, match="already"):
                    await first.receive()
            case _:
                first.close()
                await silent.flush()
        assert first.closed
        assert redis_server.execute("HGET", *name) == joined
        second.join()  # as after each new connection to a server that was started again
        assert notes(await second.receive()) == [1]
        await silent.close()
        await heir.close()

    asyncio.run(scenario())
