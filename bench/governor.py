"""How much of its idle step rate a training thread keeps beside a saturated event loop.

The thread trains a small model whose step is mostly interpreter work, the kind that suffers most. The
loop is saturated with bursts of several lengths, each shorter than the interpreter's switch interval
of 5 ms, which is what starves a thread. Each round measures the thread alone, then beside the loop
without and with the governor.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial

from actors.runtime.governor import Governor, governed_loop
from bench.measure import Budget, Size

BUDGETS = (
    Budget("governed.kept_min_ratio", 0.5, "at_least"),
    Budget("governed.loop_share_ratio", 0.3, "at_least"),
)

BURSTS_S = (0.0, 50e-6, 1e-3, 3e-3)
"""How long the loop works at a time before it looks for events again."""


class Training:
    """A small model, trained by a thread until told to stop."""

    def __init__(self) -> None:
        import torch

        torch.manual_seed(0)
        self._torch = torch
        self._model = torch.nn.Sequential(
            torch.nn.Linear(32, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 8),
        )
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01)
        self._inputs = torch.randn(32, 32)
        self._labels = torch.randint(0, 8, (32,))

    def steps_per_s(self, seconds: float, meanwhile: Callable[[float], None]) -> float:
        """Steps a second of the training thread while this thread runs `meanwhile(seconds)`."""
        steps = 0
        stopped = threading.Event()

        def train() -> None:
            nonlocal steps
            self._torch.set_num_threads(1)  # a count a thread: this one has its own
            while not stopped.is_set():
                self._step()
                steps += 1

        thread = threading.Thread(target=train)
        thread.start()
        start = time.perf_counter()
        meanwhile(seconds)
        took_s = time.perf_counter() - start
        stopped.set()
        made = steps
        thread.join()
        return made / took_s

    def _step(self) -> None:
        self._optimizer.zero_grad()
        loss = self._torch.nn.functional.cross_entropy(self._model(self._inputs), self._labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()


def saturate(governor: Governor, burst_s: float, seconds: float) -> float:
    """Keep a loop busy in bursts for `seconds`; the share of that time in which it worked."""

    async def bursts() -> float:
        worked_s = 0.0
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            while time.perf_counter() - start < burst_s:
                pass
            worked_s += time.perf_counter() - start
            await asyncio.sleep(0)
        return worked_s / seconds

    with asyncio.Runner(loop_factory=partial(governed_loop, governor)) as runner:
        return runner.run(bursts())


def run(size: Size) -> dict[str, object]:
    """Each burst length in turn; ratios are to the idle rate of the same round."""
    seconds, rounds = (0.05, 1) if size is Size.SMALL else (2.0, 3)
    training = Training()
    training.steps_per_s(seconds, time.sleep)
    idle: list[float] = []
    kept: dict[bool, dict[float, list[float]]] = {
        on: {burst_s: [] for burst_s in BURSTS_S} for on in (False, True)
    }
    shares: list[float] = []
    for _ in range(rounds):
        for burst_s in BURSTS_S:
            before = training.steps_per_s(seconds, time.sleep)
            rates = {}
            for on in (False, True):
                governor = Governor()
                governor.active = on

                def beside(wanted_s: float, governor: Governor = governor, burst_s: float = burst_s) -> None:
                    share = saturate(governor, burst_s, wanted_s)
                    if governor.active and burst_s:
                        shares.append(share)

                rates[on] = training.steps_per_s(seconds, beside)
            alone = (before + training.steps_per_s(seconds, time.sleep)) / 2
            idle.append(alone)
            for on, rate in rates.items():
                kept[on][burst_s].append(rate / alone)
    return {
        "idle_steps_per_s": statistics.median(idle),
        "ungoverned": _kept(kept[False]),
        "governed": {**_kept(kept[True]), "loop_share_ratio": statistics.median(shares)},
        "loop_turn": _turn_cost(size),
    }


def _kept(ratios: dict[float, list[float]]) -> dict[str, object]:
    """Median share of the idle rate by burst length, and the least of them."""
    medians = {
        f"burst_{burst_s * 1e6:.0f}_us_kept_ratio": statistics.median(ratios[burst_s]) for burst_s in ratios
    }
    return {**medians, "kept_min_ratio": min(medians.values())}


def _turn_cost(size: Size) -> dict[str, object]:
    """Microseconds that an empty turn of the loop takes: plain, and with an idle and a counting governor."""
    turns, rounds = (500, 3) if size is Size.SMALL else (20_000, 15)

    async def spin() -> float:
        start = time.perf_counter()
        for _ in range(turns):
            await asyncio.sleep(0)
        return (time.perf_counter() - start) / turns

    idle, counting = Governor(), Governor(work_s=1e9)  # one counts for ever, and never rests
    counting.active = True
    each_s: dict[str, list[float]] = {"plain_us": [], "inactive_us": [], "active_us": []}
    for _ in range(rounds):
        each_s["plain_us"].append(asyncio.run(spin()))
        for name, governor in (("inactive_us", idle), ("active_us", counting)):
            with asyncio.Runner(loop_factory=partial(governed_loop, governor)) as runner:
                each_s[name].append(runner.run(spin()))
    return {name: statistics.median(took) * 1e6 for name, took in each_s.items()}
