"""Claims about what is shown of a run as it goes on."""

import asyncio

from actors.runtime.simulation import run_simulated
from contracts.report import ResumeFacts
from contracts.view import BoundaryView
from esper.moment import WitnessMemory
from tests.actors.witnessing import a_witness


def test_the_comparison_adds_to_the_seconds_that_a_run_has_worked() -> None:
    async def main() -> list[float]:
        witness, _ = a_witness()
        witness.resumed(WitnessMemory(worked_s=40.0), ResumeFacts(2))
        worked = [witness.live.worked_s]
        await asyncio.sleep(5.0)
        worked.append(witness.live.worked_s)
        witness.live.compare(10, 10**9)
        await asyncio.sleep(7.0)
        worked.append(witness.live.worked_s)
        return worked

    assert run_simulated(main, seed=0) == [40.0, 45.0, 52.0]


def test_the_boundaries_median_and_99th_percentile_are_of_those_that_were() -> None:
    async def main() -> list[object]:
        witness, _ = a_witness()
        seen: list[object] = [witness.live.boundaries]
        for ms in (4, 1, 3, 2):
            witness.live.boundary(ms / 1e3)
        return [*seen, witness.live.boundaries]

    assert run_simulated(main, seed=0) == [None, BoundaryView(p50_ms=3.0, p99_ms=4.0, n=4)]
