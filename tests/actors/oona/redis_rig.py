"""The rig around a bus on a real server, whose time the test moves by hand."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Final

from actors.oona.bus import Bus
from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import FrameCodec
from actors.oona.redis.options import RedisOptions
from tests.actors.oona.note_frames import NoteFrames
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import DEFAULTS, HandClock, MakeBus, Rig, settle

OPTIONS: Final = RedisOptions(own_clock=True, deadline_s=PATIENCE_S, drain_s=PATIENCE_S)
COARSE_AFTER_S: Final = 5.0
"""A longer time passes in longer steps, but for its last seconds."""
_namespaces = count(1)
_ROUNDS_MAX: Final = 200


class Quiet:
    """Waits until nothing is on its way between a bus and its server."""

    def __init__(self, bus: RedisBus, server: RedisServer, namespace: str) -> None:
        self._bus = bus
        self._server = server
        self._channel = f"esper:{{{namespace}}}:bell"

    async def settle(self) -> None:
        """Everything that can go on has done so: the tasks here, the link, and the bell."""
        for _ in range(_ROUNDS_MAX):
            await settle()
            await until(lambda: self._bus.link.idle or self._bus.link.closed)
            batches = self._bus.link.batches
            await self._all_rings_heard()
            await settle()
            if self._bus.link.closed or (self._bus.link.idle and self._bus.link.batches == batches):
                return
        raise AssertionError("the bus never comes to rest")

    async def _all_rings_heard(self) -> None:
        """Rings are heard in order, so one more of our own comes last."""
        bell = self._bus.bell
        if self._bus.link.closed:
            return
        heard = bell.rings
        self._server.execute("PUBLISH", self._channel, "m nothing")
        await until(lambda: bell.rings > heard)


def refused(bus: Bus) -> dict[str, int]:
    """Frames that came in and were refused, by reason."""
    link = bus.metrics().link
    assert link is not None
    return link.refused


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop go round until it is so."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "it never comes to that"
        await asyncio.sleep(0)


@asynccontextmanager
async def redis_bus(
    server: RedisServer,
    topics: Mapping[str, TopicPolicy],
    config: BusConfig = DEFAULTS,
    options: RedisOptions = OPTIONS,
    clock: HandClock | None = None,
    namespace: str = "",
    frames: FrameCodec | None = None,
) -> AsyncIterator[Rig]:
    """A bus in a namespace of its own, or in that one; of notes, or of what `frames` takes."""
    namespace = namespace or f"test {next(_namespaces)}"
    clock = HandClock() if clock is None else clock
    frames = NoteFrames() if frames is None else frames
    bus = await RedisBus.open(server.address, namespace, topics, clock, frames, config, options)
    quiet = Quiet(bus, server, namespace)

    async def advance(seconds: float) -> None:
        await quiet.settle()
        end_s = clock.now_s + seconds
        while (left_s := end_s - clock.now_s) > 1e-9:
            step_s = config.tick_s if left_s <= COARSE_AFTER_S else min(1.0, left_s - COARSE_AFTER_S + 0.1)
            next_s = end_s if left_s < step_s + 1e-6 else clock.now_s + step_s
            await clock.advance(next_s - clock.now_s)
            clock.now_s = next_s
            await bus.keep_house()
            await quiet.settle()

    yield Rig(bus, advance, quiet.settle)
    await bus.close()
    assert bus.metrics().closes()


def redis_buses(
    server: RedisServer,
) -> Callable[[Mapping[str, TopicPolicy], BusConfig], AbstractAsyncContextManager[Rig]]:
    """As the conformance suite makes them."""

    def make(
        topics: Mapping[str, TopicPolicy], config: BusConfig = DEFAULTS
    ) -> AbstractAsyncContextManager[Rig]:
        return redis_bus(server, topics, config)

    make_bus: MakeBus = make
    return make_bus
