"""Opens what an address names: the bus of one run, and the registry in which runs are found.

The driver of a back end is imported when it is asked for: a run in memory does without it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from actors.oona.bus import Bus
from actors.oona.errors import BusError
from actors.oona.memory import MemoryBus
from actors.oona.topics import LISTENERS, RUN_BUS, run_topics
from actors.runtime.clock import Clock
from actors.runtime.governor import Governor
from actors.runtime.own_loop import run_on_own_loop
from contracts.address import MEMORY, is_masked
from contracts.registry import ListedRun, RunEntry
from contracts.signing.keyring import Keyring
from esper.errors import BadSetup

KEPT_S = 86_400.0
"""Seconds that a back end elsewhere keeps what a run has said, from its last sign of life on."""


RUN = "esper-run"
"""In whose name a run's messages are signed."""


class Registry(Protocol):
    """Where runs say that they are there. Whatever it raises because of its server is an UnreachableError."""

    async def put(self, entry: RunEntry) -> None:
        """A sign of life of a run, or its end."""

    async def runs(self) -> Sequence[ListedRun]:
        """The newest runs, newest first."""

    async def find(self, run_id: str) -> ListedRun | None:
        """The run of exactly this id, if there is one."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Door:
    """The way to a bus: where it is, and the secrets that are used there."""

    address: str
    keyring: Keyring | None
    sender: str
    """In whose name messages are signed."""

    @property
    def is_memory(self) -> bool:
        return self.address == MEMORY

    @property
    def signs(self) -> bool:
        """Whether messages leave this process signed."""
        return self.keyring is not None and not self.is_memory


def door(address: str, environ: Mapping[str, str], sender: str) -> Door:
    """The way to `address` with the secrets of this environment.

    Raises:
        ValueError: the address lacks its password, or the secrets can't be used.
    """
    if is_masked(address):
        raise ValueError(
            f"run.bus {address}: the password was left out when this was written; "
            "give the whole address with --bus"
        )
    return Door(address, Keyring.from_environment(environ), sender)


async def check(way: Door) -> None:
    """See that a bus can be had there; nothing is left behind.

    Raises:
        UnreachableError: nobody answers there.
        BusUnfitError: the server can't carry a bus as it is set up.
    """
    if not way.is_memory:
        from actors.oona.redis.server import check_server

        await check_server(way.address)


def try_door(address: str, environ: Mapping[str, str]) -> Door:
    """A run's way to a bus that can be had; from any thread, beside any loop.

    Raises:
        BadSetup: it can't be had, or the secrets in this environment can't be used.
    """
    try:
        way = door(address, environ, RUN)
        if not way.is_memory:
            run_on_own_loop(Governor(), lambda: check(way))
    except (ValueError, BusError) as error:
        raise BadSetup(str(error)) from None
    return way


@dataclass(frozen=True)
class OpenBus:
    """A bus, and what can be said of it only where others share it."""

    bus: Bus
    retire: Callable[[float], Awaitable[None]]
    """Let all that the back end keeps of it expire after so many seconds, unless that is said again."""
    succeed: Callable[[], Awaitable[None]]
    """Go on in place of the run's process that is dead: what its own listeners held is theirs at once.

    Raises a BusError if the back end can't be asked."""


@asynccontextmanager
async def open_bus(way: Door, run_id: str, clock: Clock) -> AsyncIterator[OpenBus]:
    """The bus of one run while the block runs; ending it is bounded, whatever has become of the back end.

    Raises:
        UnreachableError: nobody answers there.
        BusUnfitError: the server can't carry a bus as it is set up.
    """
    opened = await _opened(way, run_id, clock)
    try:
        yield opened
    finally:
        await opened.bus.close()


@asynccontextmanager
async def keeping_house(bus: Bus) -> AsyncIterator[None]:
    """Keep the bus's house while the block runs, where no actor does."""
    keeper = asyncio.create_task(bus.run_housekeeping(), name="housekeeping")
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})


@asynccontextmanager
async def open_registry(way: Door) -> AsyncIterator[Registry | None]:
    """The registry there; None in memory, where nobody else could look. Nothing is connected yet."""
    if way.is_memory:
        yield None
        return
    from actors.oona.redis.registry import RunRegistry

    async with RunRegistry(way.address) as registry:
        yield registry


async def _opened(way: Door, run_id: str, clock: Clock) -> OpenBus:
    if way.is_memory:
        return OpenBus(MemoryBus(run_topics(), clock, RUN_BUS), _nothing_to_retire, _nobody_to_succeed)
    from actors.oona.redis.bus import RedisBus
    from actors.oona.redis.frames import LeylineFrames
    from actors.oona.redis.options import RedisOptions

    frames = LeylineFrames(way.keyring, way.sender, clock)
    options = RedisOptions(recorders=LISTENERS)
    bus = await RedisBus.open(way.address, run_id, run_topics(), clock, frames, options=options)
    return OpenBus(bus, bus.retire, partial(bus.succeed, LISTENERS))


async def _nobody_to_succeed() -> None:
    """It ended with the process."""


async def _nothing_to_retire(_: float) -> None:
    """It ends with the process."""
