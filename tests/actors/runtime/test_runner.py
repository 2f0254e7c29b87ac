"""A bounded slice, then others run."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.runtime import Actor, ActorSystem, InlineThreads, handles
from actors.runtime.pace import CHUNK_MAX, TRUST_MESSAGES
from actors.runtime.runner import SLICE_S_MIN, Crowd
from tests.actors.runtime.sample import Note, in_virtual_time, make_system


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


@dataclass(frozen=True)
class Chore:
    """Another type of message, handled at its own cost."""

    n: int


class Worker(Actor[Note | Chore]):
    mailbox_size = 10_000

    def __init__(self, clock: Hand, costs_s: list[float]) -> None:
        self.clock = clock
        self.costs_s = costs_s

    @handles
    async def note(self, message: Note) -> None:
        self.clock.now += self.costs_s[message.n]

    @handles
    async def chore(self, message: Chore) -> None:
        self.clock.now += self.costs_s[message.n]


def slices(
    costs_s: list[float],
    workers: int = 1,
    kind: Callable[[int], type[Note] | type[Chore]] = lambda n: Note,
    bursts: int = 1,
) -> list[float]:
    """How long a turn of the loop was each time, for messages of these costs to each of the workers.

    Each of the `bursts` is of all these messages, and sent once the one before has been handled.
    """

    async def main() -> list[float]:
        clock = Hand()
        system = ActorSystem(clock, random.Random(1), threads=InlineThreads())
        names = [f"worker {number}" for number in range(workers)]
        refs = [system.spawn(name, lambda: Worker(clock, costs_s)) for name in names]
        await system.start()
        held: list[float] = []
        before = 0.0
        for burst in range(1, bursts + 1):
            for n in range(len(costs_s)):
                for ref in refs:
                    await ref.tell(kind(n)(n))
            while any(system.snapshot().actor(name).handled < burst * len(costs_s) for name in names):
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


def test_handlers_that_turn_slow_overrun_by_less_than_a_small_chunk() -> None:
    held = slices([1e-7] * 200 + [5e-4] * 200)
    assert max(held) <= 0.002 + 7 * 5e-4
    assert sorted(held)[len(held) // 2] <= 0.0025


def test_a_type_that_was_slow_once_goes_one_at_a_time_for_a_while() -> None:
    held = slices(([1e-7] * 200 + [2e-3] * 20) * 5)
    assert sum(turn > 0.002 + 2e-3 for turn in held) == 1, "only the first overruns by more than one"


def test_a_type_that_was_quick_for_long_is_trusted_and_once_it_was_slow_not_for_long() -> None:
    assert CHUNK_MAX <= 32
    held = slices(([1e-7] * (3 * TRUST_MESSAGES) + [5e-4] * 40) * 2)
    assert max(held) <= 0.002 + 31 * 5e-4
    assert sum(turn > 0.002 + 7 * 5e-4 for turn in held) <= 2, "once each time at most"


@pytest.mark.parametrize("ends_with", [[], [1e-7]])
def test_a_chunk_that_is_cut_short_is_looked_at_too(ends_with: list[float]) -> None:
    """By an empty mailbox, or by a message of another type."""
    once = [1e-7] * 15 + [2e-3] * 3
    held = slices(once + ends_with, kind=lambda n: Note if n < len(once) else Chore, bursts=4)
    assert sum(turn > 0.002 + 2e-3 for turn in held) == 1, "only the first burst's"


@pytest.mark.parametrize("quick", [1, 7, 200, 1_000])
def test_quick_messages_of_one_type_say_nothing_about_another(quick: int) -> None:
    costs_s = ([1e-7] * quick + [2e-3] * 64) * 2
    slow = {n for n, cost_s in enumerate(costs_s) if cost_s > 1e-3}
    held = slices(costs_s, kind=lambda n: Chore if n in slow else Note)
    assert max(held) <= 0.002 + 2e-3 + 1e-9
    assert sum(held) == pytest.approx(sum(costs_s)), "all of it was handled"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([1e-7, 1e-5, 1e-4, 1e-3, 5e-3])), max_size=150))
def test_a_slice_is_never_overrun_by_more_than_a_small_chunk(messages: list[tuple[bool, float]]) -> None:
    costs_s = [cost_s for _, cost_s in messages]
    held = slices(costs_s, kind=lambda n: Chore if messages[n][0] else Note)
    assert max(held, default=0.0) <= 0.002 + 7 * max(costs_s, default=0.0)
    assert sum(held) == pytest.approx(sum(costs_s))


@in_virtual_time
async def test_a_slice_ends_even_where_time_stands_still() -> None:
    class Endless(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None:
            await self.context.me.tell(message)

    system = make_system()
    ref = system.spawn("endless", Endless)
    await system.start()
    await ref.tell(Note(1))
    for _ in range(5):
        await asyncio.sleep(0)
    await system.stop(drain_s=0)
