"""Periodic messages on the passed clock."""

import asyncio

import pytest

from actors.runtime import Actor, Timer, handles
from actors.runtime.timers import TIMERS_MAX
from tests.actors.runtime.sample import Note, in_virtual_time, make_system, simulated


class Ticking(Actor[Note]):
    mailbox_size = 2

    def __init__(self, seen: list[float], work_s: float = 0.0) -> None:
        self.seen = seen
        self.work_s = work_s

    async def on_start(self) -> None:
        self.timer: Timer = self.context.every(10, Note(1))

    @handles
    async def note(self, message: Note) -> None:
        if message.n < 0:
            raise ValueError("negative")
        self.seen.append(self.context.clock.monotonic())
        await self.context.clock.sleep(self.work_s)


def test_a_timer_keeps_its_beat() -> None:
    async def main() -> list[float]:
        seen: list[float] = []
        system = make_system()
        system.spawn("ticking", lambda: Ticking(seen, work_s=3))
        async with system:
            await asyncio.sleep(45)
        return seen

    assert simulated(main) == [10, 20, 30, 40]


@in_virtual_time
async def test_a_timer_ends_with_its_actor() -> None:
    system = make_system()
    system.spawn("ticking", lambda: Ticking([]))
    async with system:
        await asyncio.sleep(15)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


def test_a_restart_does_not_double_the_beat() -> None:
    async def main() -> list[float]:
        seen: list[float] = []
        system = make_system()
        ref = system.spawn("ticking", lambda: Ticking(seen))
        async with system:
            await asyncio.sleep(5)
            await ref.tell(Note(-1))
            await asyncio.sleep(30)
        return seen

    assert simulated(main) == pytest.approx([15.1, 25.1], abs=0.02)


def test_a_full_mailbox_skips_the_beat_and_counts_it() -> None:
    async def main() -> int:
        system = make_system()
        ticking = Ticking([], work_s=100)
        system.spawn("ticking", lambda: ticking)
        async with system:
            await asyncio.sleep(75)
            return ticking.timer.skipped

    assert simulated(main) == 4


@in_virtual_time
async def test_timers_are_bounded_and_take_a_time_above_zero() -> None:
    system = make_system()
    ticking = Ticking([])
    system.spawn("ticking", lambda: ticking)
    async with system:
        with pytest.raises(ValueError, match="above 0"):
            ticking.context.every(0, Note(1))
        for _ in range(TIMERS_MAX - 1):
            ticking.context.every(1, Note(1))
        with pytest.raises(ValueError, match="ticking can't start another timer"):
            ticking.context.every(1, Note(1))
