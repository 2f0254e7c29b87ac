"""Virtual time, a seeded order, and a report instead of a hang."""

import asyncio
import subprocess
import sys

import pytest

from actors.runtime.simulation import SimulatedLoop, Stuck, run_simulated

RACE = """
import asyncio
from actors.runtime.simulation import run_simulated

async def main():
    order = []
    async def worker(name):
        for _ in range(5):
            order.append(name)
            await asyncio.sleep(0.25 if name == "c" else 0)
    await asyncio.gather(*(worker(name) for name in "abcdef"))
    return "".join(order)

print(run_simulated(main, seed=11))
"""


async def order_of_steps() -> str:
    order: list[str] = []

    async def worker(name: str) -> None:
        for _ in range(4):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(*(worker(name) for name in "abcd"))
    return "".join(order)


def test_an_hour_passes_without_waiting() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run_simulated(main, seed=1) == 3600


def test_one_seed_gives_one_order_and_other_seeds_give_others() -> None:
    orders = [run_simulated(order_of_steps, seed=seed) for seed in range(8)]
    assert orders == [run_simulated(order_of_steps, seed=seed) for seed in range(8)]
    assert len(set(orders)) == 8


def test_the_order_is_the_same_in_another_process() -> None:
    outputs = {
        subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1


def test_a_check_then_act_race_is_found_within_a_few_seeds() -> None:
    async def spend_twice() -> int:
        budget = 1

        async def spend() -> None:
            nonlocal budget
            if budget > 0:
                await asyncio.sleep(0)
                budget -= 1

        async def refill() -> None:
            nonlocal budget
            await asyncio.sleep(0)
            budget = min(budget + 1, 1)

        await asyncio.gather(spend(), refill())
        return budget

    assert {run_simulated(spend_twice, seed=seed) for seed in range(12)} == {0, 1}


def test_callbacks_that_are_not_task_steps_keep_their_order() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        for n in range(20):
            asyncio.get_running_loop().call_soon(seen.append, n)
        await asyncio.sleep(1)
        return seen

    assert run_simulated(main, seed=5) == list(range(20))


def test_tasks_that_wait_for_each_other_are_reported_by_name() -> None:
    async def main() -> None:
        never = asyncio.get_running_loop().create_future()
        stuck = asyncio.create_task(asyncio.wait_for(never, None), name="the stuck one")
        await stuck

    with pytest.raises(Stuck, match=r"the stuck one in .*wait_for"):
        run_simulated(main, seed=1)


def test_tasks_that_never_let_time_pass_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.runtime.simulation.ROUNDS_MAX", 100)

    async def main() -> None:
        while True:  # noqa: ASYNC110 - spinning is the point
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="time stands still at 0 s"):
        run_simulated(main, seed=1)


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="InlineThreads"):
        run_simulated(main, seed=1)


def test_without_a_seed_steps_run_first_in_first_out() -> None:
    assert run_simulated(order_of_steps, seed=None) == "abcd" * 4


def test_the_watch_sees_every_step_by_name_and_time() -> None:
    seen: list[tuple[float, str]] = []

    async def main() -> None:
        await asyncio.create_task(asyncio.sleep(1.5), name="sleeper")

    run_simulated(main, seed=1, watch=lambda now_s, name: seen.append((now_s, name)))
    assert (0.0, "sleeper") in seen
    assert (1.5, "sleeper") in seen
    assert all("0x" not in name for _, name in seen), "an address differs from run to run"


def test_what_the_watch_raises_ends_the_simulation_and_every_task_is_cancelled() -> None:
    ended: list[str] = []

    async def main() -> None:
        async def bystander() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                ended.append("bystander")

        other = asyncio.create_task(bystander())
        await asyncio.sleep(5)
        await other

    def watch(now_s: float, name: str) -> None:
        if now_s >= 5:
            raise ArithmeticError("seen")

    with pytest.raises(ArithmeticError, match="seen"):
        run_simulated(main, seed=1, watch=watch)
    assert ended == ["bystander"]


def test_a_stall_makes_every_timer_ring_late_and_keeps_their_order() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        rang: list[tuple[str, float]] = []
        for name, when in (("b", 2.0), ("a", 1.0)):
            loop.call_later(when, lambda name=name: rang.append((name, loop.time())))
        loop.stall(5.0)
        await asyncio.sleep(0.5)
        return rang

    assert run_simulated(main, seed=1) == [("a", 5.0), ("b", 5.0)]


def test_the_timers_that_are_left_have_names() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        loop.call_later(5.0, main)
        loop.call_later(6.0, order_of_steps).cancel()
        return loop.timers()

    assert run_simulated(main, seed=1) == ["test_the_timers_that_are_left_have_names.<locals>.main"]
