"""The memory back end does what every back end must."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from actors.oona.memory import MemoryBus
from actors.oona.policy import BusConfig, TopicPolicy
from tests.actors.oona.conformance import BusConformance
from tests.actors.oona.rig import DEFAULTS, HandClock, MakeBus, Rig


@asynccontextmanager
async def memory_bus(topics: Mapping[str, TopicPolicy], config: BusConfig = DEFAULTS) -> AsyncIterator[Rig]:
    clock = HandClock()
    bus = MemoryBus(topics, clock, config)
    housekeeping = asyncio.create_task(bus.run_housekeeping())
    yield Rig(bus, clock.advance)
    await bus.close()
    await clock.advance(config.tick_s)
    await asyncio.wait_for(housekeeping, None)
    assert bus.metrics().closes()


class TestMemoryBus(BusConformance):
    @pytest.fixture
    def make_bus(self) -> MakeBus:
        return memory_bus
