"""Memory and disk are looked at once a second, outside of boundaries, and nobody waits for a disk."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from actors.oona.memory import MemoryBus
from actors.oona.topics import run_topics
from actors.runtime import InlineThreads, Threads
from actors.runtime.simulation import run_simulated
from actors.vitals import Vitals, read_free, read_resident, vitals, watching_vitals
from contracts.config import EmergencyConfig
from contracts.emergency import NONE, Level, Relief, Trigger, Trouble
from esper.tolaria.memory import SHARE, available_bytes
from esper.tolaria.vitals import MB, DiskSpace, MemoryUse
from tests.actors.test_alarm import BORN_NS, Ring, Settable

T = TypeVar("T")


@dataclass
class Machine:
    """Figures that a test sets."""

    resident_mb: int = 50
    free_mb: int = 1000
    looks: int = 0
    broken: bool = False
    quiet: bool = False
    levels: list[Level] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    clock: Settable | None = None

    def resident(self) -> int:
        self.looks += 1
        return self.resident_mb * MB

    def free(self, folder: Path) -> int:
        if self.broken:
            raise OSError(5, "it is gone")
        return self.free_mb * MB


class Stuck:
    """Threads whose work never ends."""

    async def run(self, work: Callable[[], T]) -> T:
        await asyncio.get_running_loop().create_future()
        return work()


def watched(
    script: Callable[[Machine, int], None], seconds: int, threads: Threads | None = None
) -> tuple[Machine, Ring]:
    """What comes of looking for so long while `script` changes the machine each second."""
    machine = Machine()

    async def main() -> Ring:
        clock = machine.clock = Settable(asyncio.get_running_loop(), wall_ns=BORN_NS)
        ring = Ring(MemoryBus(run_topics(), clock), clock)
        signs = Vitals(
            MemoryUse(100 * MB, 1.08),
            DiskSpace(200 * MB),
            Path("/"),
            threads or InlineThreads(),
            machine.resident,
            machine.free,
        )
        quiet, tell = (lambda: machine.quiet), (lambda name, text: machine.told.append((name, text)))
        async with watching_vitals(ring.alarm, signs, clock, quiet, tell):
            for second in range(seconds):
                script(machine, second)
                await clock.sleep(1.0)
                machine.levels.append(ring.alarm.level)
        return ring

    return machine, run_simulated(main, seed=0)


def test_a_healthy_process_raises_nothing() -> None:
    machine, ring = watched(lambda *_: None, 10)
    assert machine.levels == [NONE] * 10
    assert 10 <= machine.looks <= 11
    assert not ring.did


def test_memory_above_its_budget_makes_growth_conservative_until_it_is_back() -> None:
    def script(machine: Machine, second: int) -> None:
        machine.resident_mb = 104 if 2 <= second < 5 else 50

    machine, ring = watched(script, 8)
    assert machine.levels[1] is NONE
    assert machine.levels[3] is Level.CONSERVATIVE
    assert not ring.emergencies.open
    assert len(ring.told) == 1


def test_memory_far_above_it_halts() -> None:
    def script(machine: Machine, second: int) -> None:
        machine.resident_mb = 120

    _, ring = watched(script, 3)
    assert ring.did[0].startswith("freeze: the process has 120 MB")
    assert ring.alarm.level is Level.HALT


def test_a_disk_that_fills_rests_growth_before_a_write_fails() -> None:
    def script(machine: Machine, second: int) -> None:
        machine.free_mb = 150 if second < 3 else 500

    machine, ring = watched(script, 6)
    assert machine.levels[0] is Level.ELEVATED
    assert ring.told[0][1] is not None
    assert ring.told[0][1].trigger is Trigger.DISK_FULL
    assert not ring.emergencies.open, "there is room again"


def test_a_disk_that_can_not_be_asked_is_none_of_its_business() -> None:
    def script(machine: Machine, second: int) -> None:
        machine.broken, machine.free_mb = second < 2, 10

    machine, _ = watched(script, 4)
    assert machine.levels == [NONE, NONE, Level.ELEVATED, Level.ELEVATED]


def test_a_disk_that_never_answers_holds_up_nothing() -> None:
    def script(machine: Machine, second: int) -> None:
        machine.free_mb = 0
        machine.resident_mb = 104 if second >= 2 else 50

    machine, ring = watched(script, 4, Stuck())
    assert machine.levels[-1] is Level.CONSERVATIVE
    assert [one.trigger for one in ring.emergencies.open] == [Trigger.MEMORY]


def test_a_boundary_is_not_disturbed() -> None:
    def script(machine: Machine, second: int) -> None:
        machine.quiet = second < 5
        machine.resident_mb = 104

    machine, _ = watched(script, 7)
    assert machine.levels[:4] == [NONE] * 4
    assert machine.levels[-1] is Level.CONSERVATIVE


def test_a_wall_clock_that_was_set_is_told_and_is_no_emergency() -> None:
    def script(machine: Machine, second: int) -> None:
        assert machine.clock is not None
        machine.clock.ahead_s = {3: -3600.0, 4: -3600.0}.get(second, 0.0)

    machine, ring = watched(script, 8)
    assert machine.told == [
        ("clock_set", "the wall clock was set back by 3,600 s; the log's times go on from there"),
        ("clock_set", "the wall clock was put forward by 3,600 s; the log's times go on from there"),
    ]
    assert not ring.did


def test_the_budget_is_what_is_given_or_a_share_of_what_there_is(tmp_path: Path) -> None:
    threads = InlineThreads()
    given = vitals(EmergencyConfig(memory_mb=300), tmp_path, threads)
    assert given.memory is not None
    assert given.memory.budget_bytes == 300 * MB
    usual = vitals(EmergencyConfig(), tmp_path, threads)
    assert usual.memory is not None
    assert usual.memory.budget_bytes == int(SHARE * available_bytes())
    assert usual.disk.least_bytes == EmergencyConfig().disk_free_mb * MB


def test_the_real_figures_can_be_had(tmp_path: Path) -> None:
    assert read_resident() > MB
    assert read_free(tmp_path) > 0


def test_while_there_is_too_much_memory_what_only_cycles_hold_is_let_go() -> None:
    held = [200 * MB]
    collected: list[int] = []

    def collect() -> None:
        collected.append(held[0])
        held[0] = 50 * MB

    signs = Vitals(
        MemoryUse(100 * MB, 9.0),
        DiskSpace(0),
        Path("/"),
        InlineThreads(),
        lambda: held[0],
        collect=collect,
    )

    async def looks() -> list[object]:
        return [await signs.look_at_memory(epoch) for epoch in range(3)]

    told, relief, nothing = asyncio.run(looks())
    assert isinstance(told, Trouble)
    assert isinstance(relief, Relief)
    assert nothing is None
    assert collected == [200 * MB], "not while there is enough"
