"""A bounded slice, then others run."""

import asyncio
import random

import pytest

from actors.runtime import Actor, ActorSystem, InlineThreads, handles
from actors.runtime.runner import CHUNK_MAX, SLICE_S_MIN, Crowd
from tests.actors.runtime.sample import Note, make_system, simulated


class Hand:
    """A clock that a handler moves on: the loop's own time stands still while it runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Worker(Actor[Note]):
    mailbox_size = 10_000

    def __init__(self, clock: Hand, costs_s: list[float]) -> None:
        self.clock = clock
        self.costs_s = costs_s

    @handles
    async def note(self, message: Note) -> None:
        self.clock.now += self.costs_s[message.n]


def slices(costs_s: list[float], workers: int = 1) -> list[float]:
    """How long a turn of the loop was each time, for messages of these costs to each of the workers."""

    async def main() -> list[float]:
        clock = Hand()
        system = ActorSystem(clock, random.Random(1), threads=InlineThreads())
        names = [f"worker {number}" for number in range(workers)]
        refs = [system.spawn(name, lambda: Worker(clock, costs_s)) for name in names]
        await system.start()
        for n in range(len(costs_s)):
            for ref in refs:
                await ref.tell(Note(n))
        held: list[float] = []
        before = 0.0
        while any(system.snapshot().actor(name).handled < len(costs_s) for name in names):
            await asyncio.sleep(0)
            held.append(clock.now - before)
            before = clock.now
        await system.stop()
        return [seconds for seconds in held if seconds > 0]

    return asyncio.run(main())  # first in, first out: the worker has one turn between two of ours


def test_a_flooded_actor_holds_the_loop_for_one_slice() -> None:
    for cost_s in (1e-6, 5e-5, 5e-4):
        assert max(slices([cost_s] * 3000)) <= 0.002 + cost_s


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_flooded_actors_share_one_slice_so_that_a_turn_of_the_loop_stays_short(workers: int) -> None:
    turns = slices([1e-5] * 2_000, workers)
    assert sorted(turns)[len(turns) // 2] <= 0.002 + workers * 1e-5
    assert sum(turns) == pytest.approx(workers * 2_000 * 1e-5), "all of it was handled"


def test_many_flooded_actors_have_a_least_slice_each() -> None:
    crowd = Crowd()
    assert crowd.share(0.002) == 0.002
    crowd.busy = 1
    assert crowd.share(0.002) == 0.002
    crowd.busy = 1_000
    assert crowd.share(0.002) == SLICE_S_MIN
    assert crowd.share(0.0001) == 0.0001, "whose slice is shorter keeps it"


def test_handlers_slower_than_a_slice_run_one_at_a_time() -> None:
    held = slices([0.01] * 20)
    assert max(held) <= 0.0101


def test_handlers_that_turn_slow_overrun_by_less_than_a_chunk() -> None:
    held = slices([1e-7] * 200 + [5e-4] * 200)
    assert max(held) <= 0.002 + CHUNK_MAX * 5e-4
    assert sorted(held)[len(held) // 2] <= 0.0025


def test_a_slice_ends_even_where_time_stands_still() -> None:
    class Endless(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None:
            await self.context.me.tell(message)

    async def main() -> None:
        system = make_system()
        ref = system.spawn("endless", Endless)
        await system.start()
        await ref.tell(Note(1))
        for _ in range(5):
            await asyncio.sleep(0)
        await system.stop(drain_s=0)

    simulated(main)
