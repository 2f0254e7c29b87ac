"""Claims about wall time: it is the machine's where the loop is real, and virtual where the loop is."""

import asyncio
from dataclasses import dataclass

from actors.runtime.clock import JUMP_S, LoopClock, WallJumps
from actors.runtime.simulation import run_simulated

NOW_NS = 10**18


@dataclass
class Machine:
    """A wall clock that somebody sets."""

    now_ns: int = NOW_NS

    def __call__(self) -> int:
        return self.now_ns


def on_a_real_loop(machine: Machine, wall_ns: int | None = None) -> LoopClock:
    async def made() -> LoopClock:
        return LoopClock(asyncio.get_running_loop(), wall_ns, machine)

    return asyncio.run(made())


def test_on_a_real_loop_wall_time_follows_the_machine_forwards_and_back() -> None:
    machine = Machine()
    clock = on_a_real_loop(machine)
    for ahead_s in (0, 3600, -3600, 0):
        machine.now_ns = NOW_NS + ahead_s * 10**9
        assert clock.wall_ns() == machine.now_ns


def test_wall_time_that_is_given_does_not_follow_the_machine() -> None:
    machine = Machine()
    clock = on_a_real_loop(machine, wall_ns=7)
    machine.now_ns += 3600 * 10**9
    assert 7 <= clock.wall_ns() < 60 * 10**9


def test_on_a_simulated_loop_wall_time_passes_with_the_loop_alone() -> None:
    machine = Machine()

    async def main() -> int:
        clock = LoopClock(asyncio.get_running_loop(), machine_ns=machine)
        machine.now_ns += 3600 * 10**9
        await clock.sleep(2.5)
        return clock.wall_ns()

    assert run_simulated(main, seed=0) == NOW_NS + 2_500_000_000


class Settable(LoopClock):
    """Virtual time whose wall clock somebody sets."""

    ahead_s = 0.0

    def wall_ns(self) -> int:
        return super().wall_ns() + int(self.ahead_s * 1e9)


def test_a_wall_clock_that_was_set_is_noticed_once_and_a_steady_correction_is_not() -> None:
    async def main() -> None:
        clock = Settable(asyncio.get_running_loop(), wall_ns=NOW_NS)
        jumps = WallJumps(clock)
        found = []
        for ahead_s in (0.0, 0.5 * JUMP_S, JUMP_S, 3600.0, 3600.0, -100.0, -100.5):
            await clock.sleep(1000.0)
            clock.ahead_s = ahead_s
            found.append(round(jumps.look(), 3))
        assert found == [0.0, 0.0, 0.0, 3600.0 - JUMP_S, 0.0, -3700.0, 0.0]

    run_simulated(main, seed=0)
