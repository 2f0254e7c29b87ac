"""The memory back end does what every back end must."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import pytest

from actors.oona.memory import MemoryBus
from actors.oona.policy import BusConfig, TopicPolicy
from actors.runtime.simulation import run_simulated
from tests.actors.oona.conformance import BusConformance
from tests.actors.oona.rig import DEFAULTS, HandClock, MakeBus, Play, Rig, on_a_new_loop, settle


@asynccontextmanager
async def memory_bus(topics: Mapping[str, TopicPolicy], config: BusConfig = DEFAULTS) -> AsyncIterator[Rig]:
    clock = HandClock()
    bus = MemoryBus(topics, clock, config)
    housekeeping = asyncio.create_task(bus.run_housekeeping())
    yield Rig(bus, clock.advance, settle)
    await bus.close()
    await clock.advance(config.tick_s)
    await asyncio.wait_for(housekeeping, None)
    assert bus.metrics().closes()


class TestMemoryBus(BusConformance):
    @pytest.fixture
    def make_bus(self) -> MakeBus:
        return memory_bus

    @pytest.fixture
    def play(self) -> Play:
        return on_a_new_loop


class TestMemoryBusInAnyOrder(BusConformance):
    """Once more, with the steps of tasks that are ready together in a seeded order."""

    @pytest.fixture
    def make_bus(self) -> MakeBus:
        return memory_bus

    @pytest.fixture(params=range(3))
    def play(self, request: pytest.FixtureRequest) -> Play:
        return partial(run_simulated, seed=request.param)
