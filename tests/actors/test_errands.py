"""Claims about what goes on beside an actor's messages."""

import asyncio

from actors.errands import Errands
from actors.runtime.simulation import run_simulated


async def rest(seconds: float, done: list[float]) -> None:
    await asyncio.sleep(seconds)
    done.append(seconds)


def test_an_errand_beyond_the_most_is_not_begun_until_another_is_over() -> None:
    async def main() -> tuple[list[float], bool]:
        done: list[float] = []
        errands = Errands(most=1)
        first, refused = errands.run(rest(1.0, done)), errands.run(rest(2.0, done))
        assert first in errands
        await asyncio.sleep(1.5)
        assert first not in errands
        later = errands.run(rest(3.0, done))
        await asyncio.sleep(4.0)
        return done, refused is None and later is not None

    assert run_simulated(main, seed=0) == ([1.0, 3.0], True)


def test_errands_have_their_time_at_the_end_and_are_then_cancelled() -> None:
    async def main() -> tuple[list[float], float, bool]:
        done: list[float] = []
        loop, errands = asyncio.get_running_loop(), Errands()
        errands.run(rest(1.0, done))
        longest = errands.run(rest(9.0, done))
        await errands.end(2.0)
        ended = loop.time()
        await asyncio.sleep(0)
        return done, ended, longest is not None and longest.cancelled()

    assert run_simulated(main, seed=0) == ([1.0], 2.0, True)
