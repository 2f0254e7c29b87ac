"""Clients of one bus, as so many processes would be: in memory all the same bus, on Redis one each."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self
from uuid import uuid4

import msgspec

from actors.oona.bus import Bus
from actors.oona.errors import UnreachableError
from actors.oona.memory import MemoryBus
from actors.oona.policy import BreakerPolicy, BusConfig, Overflow, TopicPolicy
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.options import RedisOptions
from actors.runtime.clock import LoopClock
from tests.actors.oona.faults.work import GROUP, TOPIC, SignedWork, WorkFrames
from tests.actors.oona.patience import PATIENCE_S, PATIENT

POLICY = TopicPolicy(
    groups=(GROUP,),
    capacity=50_000,
    overflow=Overflow.WAIT,
    ack_deadline_s=1.0,
    attempts_max=50,
    backoff_s=(0.05,),
    stall_after_s=None,
)
"""Gives nothing up: whatever a fault makes of a delivery, it comes again soon."""
CONFIG = BusConfig(tick_s=0.02, breaker=BreakerPolicy(open_s=0.1))
HASTY = RedisOptions(
    deadline_s=0.25,
    backoff_first_s=0.02,
    backoff_max_s=0.1,
    dead_after_s=2.0,
    beat_s=0.2,
    stats_s=0.1,
    retry_s=0.05,
)
"""As in production, only quicker: for servers that hang and answers that vanish. Who uses it has to get along
with a refusal at any moment, for a busy machine is as good as a server that hangs."""
OPTIONS = msgspec.structs.replace(
    HASTY, deadline_s=PATIENT.deadline_s, drain_s=PATIENT.drain_s, dead_after_s=PATIENT.dead_after_s
)
"""As quick, but with patience: nothing passes its deadline because the machine is busy."""


class Clients(Protocol):
    """Closed at the end with all that were opened."""

    async def open(self) -> Bus:
        """One client more, with its housekeeping going on."""

    async def close(self, bus: Bus) -> None:
        """The end of one client."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


MakeClients = Callable[[Mapping[str, TopicPolicy]], Clients]


class _Kept:
    """Clients and their housekeeping."""

    def __init__(self) -> None:
        self._houses: dict[int, tuple[Bus, asyncio.Task[None]]] = {}

    def keep(self, bus: Bus) -> None:
        self._houses[id(bus)] = (bus, asyncio.create_task(bus.run_housekeeping()))

    async def close(self, bus: Bus) -> None:
        if id(bus) in self._houses:
            _, house = self._houses.pop(id(bus))
            await bus.close()
            house.cancel()
            with suppress(asyncio.CancelledError):
                await house

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bus, _ in list(self._houses.values()):
            await self.close(bus)


class MemoryClients(_Kept):
    """All have the same bus."""

    def __init__(self, topics: Mapping[str, TopicPolicy], config: BusConfig = CONFIG) -> None:
        super().__init__()
        self._topics = topics
        self._config = config
        self._bus: MemoryBus | None = None

    async def open(self) -> Bus:
        if self._bus is None:
            self._bus = MemoryBus(self._topics, LoopClock(asyncio.get_running_loop()), self._config)
            self.keep(self._bus)
        return self._bus


class RedisClients(_Kept):
    """Each has a connection of its own, and a namespace in common."""

    def __init__(
        self,
        address: str,
        topics: Mapping[str, TopicPolicy],
        options: RedisOptions = OPTIONS,
        config: BusConfig = CONFIG,
        namespace: str = "",
        signed: bool = False,
    ) -> None:
        super().__init__()
        self.address = address
        self.signed = signed
        self.namespace = namespace or uuid4().hex
        self._topics = topics
        self._config = config
        self._options = options

    async def open(self) -> RedisBus:
        return await self.open_at(self.address)

    async def insist(self, address: str = "") -> RedisBus:
        """The same where no answer may come in time; tried again until there is one."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with suppress(UnreachableError):
                    return await self.open_at(address or self.address)

    async def open_at(self, address: str) -> RedisBus:
        """By another way to the same server."""
        bus = await open_bus(
            address, self.namespace, self._topics, self._options, self._config, signed=self.signed
        )
        self.keep(bus)
        return bus


async def open_bus(
    address: str,
    namespace: str,
    topics: Mapping[str, TopicPolicy],
    options: RedisOptions = OPTIONS,
    config: BusConfig = CONFIG,
    *,
    signed: bool = False,
) -> RedisBus:
    """On the running loop's clock, without housekeeping."""
    clock = LoopClock(asyncio.get_running_loop())
    frames = SignedWork(clock) if signed else WorkFrames()
    return await RedisBus.open(address, namespace, topics, clock, frames, config, options)


def one_topic(**changes: object) -> dict[str, TopicPolicy]:
    """The topic of the fault tests, its policy changed so."""
    return {TOPIC: msgspec.structs.replace(POLICY, **changes)}
