"""A run's witness alone, in virtual time, and what it has told."""

import asyncio
from collections.abc import Callable

from actors.nissa.counters import RunCounters
from actors.oona.memory import MemoryBus
from actors.oona.topics import run_topics
from actors.runtime import LoopClock
from actors.runtime.simulation import run_simulated
from actors.witness import RunWitness
from contracts import topics
from contracts.messages import TelemetryPacket
from contracts.view import RunFacts

NAMES = {"BP001": "identity"}


def a_witness() -> tuple[RunWitness, MemoryBus]:
    """The witness of a run that begins now, and the bus that it tells; inside a simulation."""
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop, wall_ns=10**18)
    bus = MemoryBus(run_topics(), clock)
    facts = RunFacts("fake", "none", 0, "nowhere", epochs=3)
    return RunWitness("run", facts, RunCounters(), bus, NAMES, loop.time, clock.wall_ns), bus


def ids(test: Callable[[RunWitness], None]) -> list[str]:
    """Ids of the events that were told, in order."""

    async def main() -> list[str]:
        witness, bus = a_witness()
        test(witness)
        packets = [past.message for past in await bus.history(topics.TELEMETRY)]
        return [event.event_id for one in packets if isinstance(one, TelemetryPacket) for event in one.events]

    return run_simulated(main, seed=0)
