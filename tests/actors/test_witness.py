"""Claims about what a run's witness remembers beside what it records."""

import asyncio

from actors.nissa.counters import RunCounters
from actors.oona.memory import MemoryBus
from actors.oona.topics import run_topics
from actors.runtime import LoopClock
from actors.runtime.simulation import run_simulated
from actors.witness import RunWitness
from contracts.report import ResumeFacts
from contracts.view import RunFacts
from esper.moment import WitnessMemory


def test_the_comparison_adds_to_the_seconds_that_a_run_has_worked() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_ns=10**18)
        bus = MemoryBus(run_topics(), clock)
        facts = RunFacts("fake", "none", 0, "nowhere", epochs=3)
        witness = RunWitness("run", facts, RunCounters(), bus, {}, loop.time, clock.wall_ns)
        witness.resumed(WitnessMemory(worked_s=40.0), ResumeFacts(2))
        worked = [witness.worked_s]
        await clock.sleep(5.0)
        worked.append(witness.worked_s)
        witness.compare(10, 10**9)
        await clock.sleep(7.0)
        worked.append(witness.worked_s)
        return worked

    assert run_simulated(main, seed=0) == [40.0, 45.0, 52.0]
