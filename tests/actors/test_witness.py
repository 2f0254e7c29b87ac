"""Claims about what a run's witness remembers beside what it records."""

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
from contracts.report import AlertFacts, ResumeFacts, RollbackFacts
from contracts.view import KernelProgress, RunFacts, RunView
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


def ids(test: Callable[[RunWitness], None]) -> list[str]:
    """Ids of the events that were told, in order."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_ns=10**18)
        bus = MemoryBus(run_topics(), clock)
        facts = RunFacts("fake", "none", 0, "nowhere", epochs=3)
        names = {"BP001": "identity"}
        test(RunWitness("run", facts, RunCounters(), bus, names, loop.time, clock.wall_ns))
        packets = [past.message for past in await bus.history(topics.TELEMETRY)]
        return [event.event_id for one in packets if isinstance(one, TelemetryPacket) for event in one.events]

    return run_simulated(main, seed=0)


def test_that_kernels_can_not_be_compiled_is_an_alert_once_until_they_can_be_again() -> None:
    seen: list[AlertFacts] = []
    shown: list[RunView] = []

    def compile_so(witness: RunWitness) -> None:
        witness.kernels(1, 9)
        witness.compiling(("BP001", "BP999"), "")
        shown.append(witness.view())
        for epoch, trouble in enumerate(("no filter", "no filter", "no memory", "", "", "no filter"), 1):
            witness.reached(epoch)
            witness.compiling((), trouble)
            if epoch == 3:
                shown.append(witness.view())
        seen.extend(witness.recorder.recorded.alerts)

    assert len(ids(compile_so)) == 3
    first, second = seen
    assert (first.name, first.epoch, first.cleared_epoch) == ("no_compiler", 1, 4)
    assert (second.name, second.epoch, second.cleared_epoch) == ("no_compiler", 6, None)
    assert "(no filter); plain modules stand in" in first.text
    making, troubled = shown
    assert making.kernels == KernelProgress(1, 9, ("identity", "BP999"))
    assert (making.alerts, troubled.alerts) == ((), (first.text,))


def test_a_store_that_can_not_be_used_is_one_alert_though_the_compiler_says_so_too() -> None:
    names: list[str] = []

    def fail(witness: RunWitness) -> None:
        witness.no_store("the disk is full")
        witness.compiling((), "the disk is full")
        witness.compiling((), "")
        names.extend(alert.name for alert in witness.recorder.recorded.alerts)

    assert len(ids(fail)) == 1
    assert names == ["no_kernel_store"]


def test_what_a_resumed_run_tells_again_has_the_same_id_and_nothing_else_has_it() -> None:
    def first(witness: RunWitness) -> None:
        for epoch in (1, 2, 3):
            witness.reached(epoch)
            witness.alert("loud", f"the noise of {epoch}")

    def second(witness: RunWitness) -> None:
        witness.resumed(WitnessMemory(), ResumeFacts(2))
        witness.reached(3)
        witness.alert("new", "a noise that was not there before")
        witness.alert("loud", "the noise of 3")

    told, (resumed, new, again) = ids(first), ids(second)
    assert len(set(told)) == 3
    assert again == told[2]
    assert {resumed, new}.isdisjoint(told)


def test_the_same_words_twice_are_two_events_and_again_after_a_rollback() -> None:
    def speak(witness: RunWitness) -> None:
        witness.reached(2)
        witness.alert("loud", "a noise")
        witness.alert("loud", "a noise")
        witness.rolled_back(WitnessMemory(), RollbackFacts(2, 1, "fast", "a reason", 0.0))
        witness.alert("loud", "a noise")

    one = ids(speak)
    assert len(set(one)) == len(one) == 4
    assert one == ids(speak)
