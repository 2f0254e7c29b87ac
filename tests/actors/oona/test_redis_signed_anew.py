"""What was acknowledged to a publisher that signs is delivered, however long it lay: it is signed anew.

And what a stranger shows again is not, nor what nobody is left to sign.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Final

import msgspec
import pytest
from msgspec.structs import replace

from actors.oona.bus import Delivery
from actors.oona.open import RUN, Door, open_bus
from actors.oona.policy import TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.anew import TOGETHER_MAX
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import Frame, FrameCodec, LeylineFrames
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.subscription import RedisSubscription
from actors.runtime.clock import LoopClock
from contracts import topics
from contracts.kernels import KernelArtifactError
from contracts.messages import AdaptationCommand, CommandType
from contracts.signing.admission import FRESH_NS
from contracts.signing.keyring import Keyring
from tests.actors.oona.patience import PATIENCE_S, PATIENT
from tests.actors.oona.redis_rig import refused, until
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import HandClock
from tests.actors.oona.strangers import Stranger, plain

ENVIRONMENT: Final = {"ESPER_LEYLINE_SECRET": "a secret of more than thirty-two letters"}
TOPIC: Final = topics.ADAPTATION_COMMAND
ACTS: Final = "workers"
RECORDS: Final = "recorders"
POLICY: Final = TopicPolicy(groups=(ACTS, RECORDS), stall_after_s=None, attempts_max=1)
COMMAND: Final = AdaptationCommand("c", CommandType.PAUSE, 1, "tamiyo")
ERROR: Final = KernelArtifactError("r", "BP001", "it was refused")
STALE_S: Final = FRESH_NS / 1e9 + 2
OPTIONS: Final = replace(PATIENT, own_clock=True, recorders=(RECORDS,))
_namespaces = count(1)


class WallClock(HandClock):
    """Moved by hand, and set by the machine's clock: the server's own time is compared with it."""

    def __init__(self) -> None:
        super().__init__()
        self._born_ns = time.time_ns() - int(self.now_s * 1e9)

    def wall_ns(self) -> int:
        return self._born_ns + int(self.now_s * 1e9)


class Fleet:
    """Buses of one namespace, each as a process of its own would have it."""

    def __init__(self, server: RedisServer, options: RedisOptions) -> None:
        self.server = server
        self.clock = WallClock()
        self.namespace = f"signed anew {next(_namespaces)}"
        self.prefix = f"esper:{{{self.namespace}}}:"
        self._options = options
        self._stack = AsyncExitStack()

    async def bus(self, sender: str, frames: FrameCodec | None = None) -> RedisBus:
        """One that is born now."""
        self.clock.now_s += 0.1
        frames = frames or LeylineFrames(Keyring.from_environment(ENVIRONMENT), sender, self.clock)
        bus = await RedisBus.open(
            self.server.address, self.namespace, {TOPIC: POLICY}, self.clock, frames, options=self._options
        )
        self._stack.push_async_callback(bus.close)
        self.clock.now_s += 0.1
        return bus

    async def close(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def fleet(server: RedisServer, options: RedisOptions = OPTIONS) -> AsyncIterator[Fleet]:
    made = Fleet(server, options)
    try:
        yield made
    finally:
        await made.close()


async def all_of(subscription: RedisSubscription, messages: int) -> list[Delivery]:
    deliveries: list[Delivery] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(deliveries) < messages:
            deliveries += await subscription.receive(16)
    return deliveries


async def publish(bus: RedisBus, *event_ids: str) -> None:
    for event_id in event_ids:
        await bus.publish(TOPIC, COMMAND, event_id=event_id)


def run(scenario: Callable[[Fleet], Awaitable[None]], server: RedisServer) -> None:
    async def main() -> None:
        async with fleet(server) as made:
            await scenario(made)

    asyncio.run(main())


def test_commands_that_lay_for_longer_than_a_signature_is_good_are_delivered(
    redis_server: RedisServer,
) -> None:
    async def scenario(fleet: Fleet) -> None:
        sender, reader = await fleet.bus("tamiyo"), await fleet.bus("kasmina")
        ids = [f"c{n}" for n in range(2 * TOGETHER_MAX + 1)]
        await publish(sender, *ids)
        fleet.clock.now_s += STALE_S
        deliveries = await all_of(reader.subscribe(TOPIC, ACTS, "w"), len(ids))
        assert {each.event_id for each in deliveries} == set(ids)
        assert {each.attempt for each in deliveries} == {1}, "to be refused is no attempt"
        for each in deliveries:
            each.ack()
        await reader.flush()
        assert refused(reader) == {}
        assert await reader.dead_letters.list() == []
        assert (await reader.refresh()).closes()

    run(scenario, redis_server)


def test_commands_are_delivered_after_a_server_was_away_for_longer_than_that_and_kept_its_data() -> None:
    async def scenario(fleet: Fleet) -> None:
        sender, reader = await fleet.bus("tamiyo"), await fleet.bus("kasmina")
        ids = [f"c{n}" for n in range(5)]
        await publish(sender, *ids)
        keeper = asyncio.create_task(every_tick(sender, reader))
        fleet.server.kill()
        await until(lambda: not (sender.link.up or reader.link.up))
        fleet.clock.now_s += STALE_S
        await asyncio.to_thread(fleet.server.restart, True)
        assert await sender.link.risen(PATIENCE_S)
        assert await reader.link.risen(PATIENCE_S)
        deliveries = await all_of(reader.subscribe(TOPIC, ACTS, "w"), 5)
        keeper.cancel()
        assert [each.event_id for each in deliveries] == ids
        assert refused(reader) == {}
        for each in deliveries:
            each.ack()
        await reader.flush()
        assert await reader.dead_letters.list() == []
        rows = [row for row in (await reader.refresh()).groups if row.group == ACTS]
        assert sum(row.ledger.published for row in rows) == 5
        assert sum(row.ledger.acked for row in rows) == 5

    with RedisServer() as server:
        run(scenario, server)


async def every_tick(*buses: RedisBus) -> None:
    """Rings may be missed while the bell is connected anew; ticks are the net beneath."""
    while True:
        await asyncio.sleep(0.02)
        buses[0].clock.now_s += 0.02  # type: ignore[attr-defined]
        for bus in buses:
            await bus.keep_house()


def test_commands_from_before_a_readers_birth_are_delivered_while_their_sender_lives(
    redis_server: RedisServer,
) -> None:
    async def scenario(fleet: Fleet) -> None:
        sender = await fleet.bus("tamiyo")
        await publish(sender, "c1", "c2")
        reader = await fleet.bus("kasmina")
        deliveries = await all_of(reader.subscribe(TOPIC, ACTS, "w"), 2)
        assert [each.event_id for each in deliveries] == ["c1", "c2"]
        assert refused(reader) == {}

    run(scenario, redis_server)


def test_a_new_signature_goes_with_its_entry_to_the_dead_letters_and_to_its_end(
    redis_server: RedisServer,
) -> None:
    async def scenario(fleet: Fleet) -> None:
        signs = f"{fleet.prefix}signs:{TOPIC}"
        sender = await fleet.bus("tamiyo")
        await publish(sender, "c1")
        reader = await fleet.bus("kasmina")
        (delivery,) = await all_of(reader.subscribe(TOPIC, ACTS, "w"), 1)
        ((_, anew),) = _pairs(redis_server.execute("HGETALL", signs))
        delivery.nack(error="it failed")
        await reader.flush()
        letters = redis_server.execute("HVALS", f"{fleet.prefix}letter:{TOPIC}")
        assert isinstance(letters, list)
        assert len(letters) == 1
        assert isinstance(letters[0], bytes)
        assert anew[8:] in letters[0]
        (recorded,) = await all_of(reader.subscribe(TOPIC, RECORDS, "r"), 1)
        recorded.ack()
        await reader.flush()
        assert redis_server.execute("EXISTS", signs) == 0, "every group has settled it"

    run(scenario, redis_server)


def _pairs(found: object) -> list[tuple[bytes, bytes]]:
    assert isinstance(found, list)
    return list(zip(found[::2], found[1::2], strict=True))


@pytest.mark.parametrize(("waits_s", "reason"), [(1.0, "before_birth"), (STALE_S, "stale")])
def test_what_nobody_is_left_to_sign_is_not_delivered_but_counted_and_kept(
    redis_server: RedisServer, waits_s: float, reason: str
) -> None:
    async def scenario(fleet: Fleet) -> None:
        reader = await fleet.bus("kasmina") if reason == "stale" else None
        sender = await fleet.bus("tamiyo")
        await publish(sender, "c1")
        await sender.close()
        fleet.clock.now_s += waits_s
        reader = reader or await fleet.bus("kasmina")
        assert await waited_in_vain(fleet, reader) > 5, "it was waited for"
        assert refused(reader) == {reason: 1}
        (letter,) = await reader.dead_letters.list()
        assert (letter.event_id, letter.group) == ("c1", ACTS)
        assert "sign it anew" in letter.last_error

    async def main() -> None:
        async with fleet(redis_server, replace(OPTIONS, dead_after_s=5.0)) as made:
            await scenario(made)

    asyncio.run(main())


async def waited_in_vain(fleet: Fleet, reader: RedisBus) -> float:
    """Let time pass until something was refused; nothing is delivered meanwhile. Returns the seconds."""
    began_s = fleet.clock.now_s
    subscription = reader.subscribe(TOPIC, ACTS, "w")
    while not refused(reader):
        assert fleet.clock.now_s < began_s + 60
        assert await subscription.receive(1, wait_s=0) == []
        fleet.clock.now_s += 0.3
        await reader.keep_house()
    await reader.flush()
    return fleet.clock.now_s - began_s


class Echo(LeylineFrames):
    """Says once more what it has overheard."""

    def __init__(self, clock: HandClock, overheard: Frame) -> None:
        super().__init__(None, "stranger", clock)
        self._overheard = overheard

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        return self._overheard.envelope

    def sign(self, envelope: bytes) -> bytes:
        return self._overheard.signature


@pytest.mark.parametrize(("waits_s", "reason"), [(1.0, "before_birth"), (STALE_S, "stale")])
def test_a_stranger_who_shows_an_old_command_again_gets_it_neither_signed_nor_done(
    redis_server: RedisServer, waits_s: float, reason: str
) -> None:
    async def scenario(fleet: Fleet) -> None:
        sender, first = await fleet.bus("tamiyo"), await fleet.bus("kasmina")
        await publish(sender, "c1")
        overheard = the_frame(redis_server, f"{fleet.prefix}s:{TOPIC}:4")
        for group in (ACTS, RECORDS):
            (delivery,) = await all_of(first.subscribe(TOPIC, group, "w"), 1)
            delivery.ack()
        await first.close()
        while sender.post.outbox.retained:
            fleet.clock.now_s += 0.3
            await sender.keep_house()
        fleet.clock.now_s += waits_s
        reader = await fleet.bus("kasmina")
        redis_server.execute("DEL", f"{fleet.prefix}ids:{TOPIC}", f"{fleet.prefix}seen:{TOPIC}")
        await publish(await fleet.bus("stranger", Echo(fleet.clock, overheard)), "c1")
        await waited_in_vain(fleet, reader)
        assert refused(reader) == {reason: 1}
        assert sender.link.idle, "it was asked for a new signature, and is alive"

    async def main() -> None:
        async with fleet(redis_server, replace(OPTIONS, dead_after_s=5.0)) as made:
            await scenario(made)

    asyncio.run(main())


def the_frame(server: RedisServer, stream: str) -> Frame:
    """Of the only entry of a stream."""
    ((_, fields),) = server.execute("XRANGE", stream, "-", "+")  # type: ignore[misc]
    said = dict(_pairs(fields))
    return Frame(said[b"envelope"], said[b"signature"])


def test_who_only_records_reads_what_was_said_before_it_was_born_and_nobody_acts_on_that(
    redis_server: RedisServer,
) -> None:
    async def scenario(fleet: Fleet) -> None:
        sender = await fleet.bus("tamiyo")
        await publish(sender, "c1")
        await sender.close()
        reader = await fleet.bus("esper-run")
        (recorded,) = await all_of(reader.subscribe(TOPIC, RECORDS, "r"), 1)
        assert recorded.event_id == "c1"
        recorded.ack()
        assert refused(reader) == {}
        assert await reader.subscribe(TOPIC, ACTS, "w").receive(1, wait_s=0) == []

    run(scenario, redis_server)


def test_who_only_records_takes_down_once_what_is_shown_twice(redis_server: RedisServer) -> None:
    async def scenario(fleet: Fleet) -> None:
        sender, reader = await fleet.bus("tamiyo"), await fleet.bus("esper-run")
        await publish(sender, "c1")
        overheard = the_frame(redis_server, f"{fleet.prefix}s:{TOPIC}:4")
        nissa = reader.subscribe(TOPIC, RECORDS, "r")
        (recorded,) = await all_of(nissa, 1)
        recorded.ack()
        await reader.flush()
        fleet.clock.now_s += 1
        redis_server.execute("DEL", f"{fleet.prefix}ids:{TOPIC}", f"{fleet.prefix}seen:{TOPIC}")
        await publish(await fleet.bus("stranger", Echo(fleet.clock, overheard)), "c1")
        await publish(sender, "c2")
        assert [each.event_id for each in await all_of(nissa, 1)] == ["c2"]

    run(scenario, redis_server)


def test_a_resumed_run_takes_down_what_its_dead_process_said(redis_server: RedisServer) -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        way = Door(redis_server.address, Keyring.from_environment(ENVIRONMENT), RUN)
        async with open_bus(way, "a run that died", clock) as dead:
            await dead.bus.publish(TOPIC, COMMAND, event_id="c1")
            await dead.bus.publish(topics.KERNEL_ERROR, ERROR, event_id="k1")
        async with open_bus(way, "a run that died", clock) as opened:
            await opened.succeed()
            nissa = opened.bus.subscribe(topics.ALL, "nissa", "nissa-2")
            deliveries: list[Delivery] = []
            async with asyncio.timeout(PATIENCE_S):
                while len(deliveries) < 2:
                    deliveries += await nissa.receive(16)
            assert {each.event_id for each in deliveries} == {"c1", "k1"}
            for each in deliveries:
                each.ack()
            assert refused(opened.bus) == {}

    asyncio.run(main())


def test_one_who_only_shows_reads_it_too(redis_server: RedisServer) -> None:
    async def scenario(fleet: Fleet) -> None:
        sender, dead = await fleet.bus("tamiyo"), await fleet.bus("observer")
        dead.subscribe(TOPIC, "shows", "dead", lossy=True)
        await dead.flush()
        await publish(sender, "c1")
        await sender.close()
        observer = await fleet.bus("observer")
        (shown,) = await all_of(observer.subscribe(TOPIC, "shows", "o", lossy=True), 1)
        assert shown.event_id == "c1"

    run(scenario, redis_server)


def test_a_successor_ends_the_dead_processs_own_groups_and_no_other(redis_server: RedisServer) -> None:
    async def scenario(fleet: Fleet) -> None:
        sender, dead = await fleet.bus("tamiyo"), await fleet.bus("esper-run")
        observer = await fleet.bus("observer")
        dead.subscribe(TOPIC, RECORDS, "nissa-1")
        dead.subscribe(TOPIC, "kasmina", "kasmina-1")
        observer.subscribe(TOPIC, "shows", "o")
        await dead.flush()
        await observer.flush()
        await publish(sender, "c1")
        heir = await fleet.bus("esper-run")
        await heir.succeed([RECORDS])
        groups = {row.group: row for row in (await heir.refresh()).groups if row.topic == TOPIC}
        assert set(groups) == {ACTS, RECORDS, "shows"}
        mine = heir.subscribe(TOPIC, "kasmina", "kasmina-2")
        assert await mine.receive(1, wait_s=0) == [], "what its dead process was told is over"
        await publish(sender, "c2")
        assert [each.event_id for each in await all_of(mine, 1)] == ["c2"]
        assert refused(heir) == {}

    run(scenario, redis_server)


def test_a_sender_that_is_asked_all_the_time_signs_now_and_then(redis_server: RedisServer) -> None:
    async def scenario(fleet: Fleet) -> None:
        signs = f"{fleet.prefix}signs:{TOPIC}"
        sender = await fleet.bus("tamiyo")
        await publish(sender, "c1")

        async def asked() -> object:
            sender.post.wanted_anew(TOPIC)
            await until(lambda: sender.link.idle)
            return redis_server.execute("HVALS", signs)

        first = await asked()
        assert first != []
        assert await asked() == first
        fleet.clock.now_s += OPTIONS.retry_s
        await sender.keep_house()
        await until(lambda: sender.link.idle)
        assert redis_server.execute("HVALS", signs) != first, "it was not forgotten"

    run(scenario, redis_server)


def test_what_an_earlier_life_said_under_the_same_id_keeps_its_own_signature(
    redis_server: RedisServer,
) -> None:
    async def scenario(fleet: Fleet) -> None:
        reader = await fleet.bus("kasmina")
        acts = reader.subscribe(TOPIC, ACTS, "w")
        first, second = await fleet.bus("esper-run"), await fleet.bus("esper-run")
        await publish(second, "c0")
        fleet.clock.now_s += STALE_S
        await publish(first, "c1")
        await first.link.close()  # it was killed
        await second.publish(TOPIC, replace(COMMAND, issued_at=2), event_id="c1")  # the same epoch once more
        keeper, heard = asyncio.create_task(every_tick(reader, second)), list[str]()
        async with asyncio.timeout(PATIENCE_S):
            while len(heard) < 2 and not refused(reader):  # the second when the first has been asked for
                heard += [each.event_id for each in await acts.receive(1, wait_s=0)]
                await asyncio.sleep(0.05)
        keeper.cancel()
        assert sorted(heard) == ["c0", "c1"]
        assert refused(reader) == {}

    run(scenario, redis_server)


def test_who_only_records_believes_no_old_command_of_another_run_whatever_time_stands_beside_it(
    redis_server: RedisServer,
) -> None:
    async def scenario(fleet: Fleet) -> None:
        async with fleet_of_long_ago(redis_server) as other:
            await publish(await other.bus("tamiyo"), "old")
            overheard = the_frame(redis_server, f"{other.prefix}s:{TOPIC}:4")
            then_ms = float(int(other.clock.wall_ns() / 1e6))
        reader = await fleet.bus("esper-run")
        records = reader.subscribe(TOPIC, RECORDS, "r")
        await reader.flush()
        stranger = Stranger(redis_server, fleet.namespace, TOPIC)
        said = ("envelope", overheard.envelope, "signature", overheard.signature)
        stranger.add(4, "id", "old", "plain", plain(taken_ms=then_ms), *said, groups=(RECORDS,))
        assert await records.receive(16, wait_s=0) == []
        assert refused(reader) == {}, "perhaps its sender still lives"
        until_s = fleet.clock.now_s + 60
        while not refused(reader) and fleet.clock.now_s < until_s:
            fleet.clock.now_s += 0.3
            await reader.keep_house()
            assert await records.receive(16, wait_s=0) == []
        assert refused(reader) == {"stale": 1}

    async def main() -> None:
        async with fleet(redis_server, replace(OPTIONS, dead_after_s=5.0)) as made:
            await scenario(made)

    asyncio.run(main())


@asynccontextmanager
async def fleet_of_long_ago(server: RedisServer) -> AsyncIterator[Fleet]:
    async with fleet(server) as made:
        made.clock.now_s -= 30 * 86_400
        yield made
