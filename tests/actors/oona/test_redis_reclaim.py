"""What somebody reads past the bus and never acknowledges comes back in line (`XAUTOCLAIM`)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import msgspec

from actors.oona.policy import TopicPolicy
from tests.actors.oona.redis_rig import OPTIONS, redis_bus
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import Rig, notes

RECLAIM_S: Final = 0.5
POLICY: Final = TopicPolicy(groups=("g",), ack_deadline_s=600.0, stall_after_s=None)
IDLE_MS: Final = 10 * int((POLICY.ack_deadline_s + POLICY.postpone_max_s) * 1000)
"""Longer than anything lies in honest hands."""
LOOKED_AT: Final = 64
"""Entries of a rank that one round looks at."""
_runs = count()


class Stranger:
    """Reads past the scripts, as somebody with `redis-cli` might."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self._server = server
        self._stream = f"esper:{{{namespace}}}:s:t:4"

    def reads(self, most: int) -> int:
        """Messages that it got, and keeps."""
        words = ("XREADGROUP", "GROUP", "g", "stranger", "COUNT", most, "STREAMS", self._stream, ">")
        answer = self._server.execute(*words)
        assert isinstance(answer, list)
        return len(answer[0][1])  # type: ignore[index,arg-type]

    def lets_lie(self) -> None:
        """Everything that is in anybody's hands was taken long ago."""
        pending = self._server.execute("XPENDING", self._stream, "g", "-", "+", 1_000)
        assert isinstance(pending, list)
        for entry, holder, *_ in pending:  # type: ignore[misc]
            assert isinstance(entry, bytes)
            assert isinstance(holder, bytes)
            self._server.execute("XCLAIM", self._stream, "g", holder, 0, entry, "IDLE", IDLE_MS, "JUSTID")


@asynccontextmanager
async def a_bus(server: RedisServer) -> AsyncIterator[tuple[Rig, Stranger]]:
    namespace = f"read past the bus {next(_runs)}"
    options = msgspec.structs.replace(OPTIONS, reclaim_s=RECLAIM_S)
    async with redis_bus(server, {"t": POLICY}, options=options, namespace=namespace) as rig:
        yield rig, Stranger(server, namespace)


def test_what_a_stranger_read_and_never_acknowledged_is_delivered(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with a_bus(redis_server) as (rig, stranger):
            await rig.publish("t", range(5))
            assert stranger.reads(3) == 3
            consumer = rig.bus.subscribe("t", "g", "c")
            assert notes(await rig.drain(consumer)) == [3, 4]
            await rig.let_pass(3 * RECLAIM_S)
            assert await rig.drain(consumer) == [], "the stranger may still be at it"
            stranger.lets_lie()
            await rig.let_pass(1.5 * RECLAIM_S)
            again = await rig.drain(consumer)
            assert notes(again) == [0, 1, 2]
            assert [each.attempt for each in again] == [1, 1, 1]

    asyncio.run(scenario())


def test_what_is_in_hand_for_long_does_not_hide_what_a_stranger_read(redis_server: RedisServer) -> None:
    """However often all of it is looked at: each round goes on where the last one ended."""
    held = 2 * LOOKED_AT + 3

    async def scenario() -> None:
        async with a_bus(redis_server) as (rig, stranger):
            consumer = rig.bus.subscribe("t", "g", "c")
            await rig.publish("t", range(held))
            in_hand = await rig.drain(consumer)
            assert len(in_hand) == held
            await rig.publish("t", [held])
            assert stranger.reads(1) == 1
            rounds = 0
            while not (found := await rig.drain(consumer)):
                assert rounds < 3
                stranger.lets_lie()
                await rig.let_pass(RECLAIM_S)
                rounds += 1
            assert notes(found) == [held]
            assert rounds == 3
            for each in [*in_hand, *found]:
                each.ack()
            await rig.bus.flush()
            assert (await rig.bus.refresh()).depth == 0, "what is in hand stays there"

    asyncio.run(scenario())


def test_behind_the_last_entry_the_next_round_begins_anew(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        async with a_bus(redis_server) as (rig, stranger):
            consumer = rig.bus.subscribe("t", "g", "c")
            for n in range(3):
                await rig.publish("t", [n])
                assert stranger.reads(1) == 1
                stranger.lets_lie()
                await rig.let_pass(2 * RECLAIM_S)
                assert notes(await rig.drain(consumer)) == [n]

    asyncio.run(scenario())
