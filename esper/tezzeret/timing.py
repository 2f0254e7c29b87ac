"""How long a pass of a module takes, in processor time of this thread.

Wall time would say how busy the machine is: a kernel is made in the gaps that training leaves.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from esper.tezzeret.examination import run

BATCH = 32
WARM_UP = 3
"""Passes that are not counted."""
PASSES_MIN = 5
PASSES_MAX = 40
BUDGET_S = 0.25
"""Processor time after which no further pass is begun, once there are `PASSES_MIN`."""
Clock = Callable[[], float]


class Latency(NamedTuple):
    """Milliseconds of one forward and backward pass."""

    p50_ms: float
    p95_ms: float


def latency(module: nn.Module, h: Tensor, clock: Clock = time.thread_time) -> Latency:
    """Measured over some passes of `h`, (B, *shape)."""
    for _ in range(WARM_UP):
        run(module, h)
    return _latency(_passes(module, h, clock))


def ratio(plain: nn.Module, other: nn.Module, h: Tensor, clock: Clock = time.thread_time) -> float:
    """Median time of `plain` over that of `other`; they take turns: what disturbs one disturbs both."""
    for _ in range(WARM_UP):
        run(plain, h)
        run(other, h)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(PASSES_MAX // PASSES_MIN):
        times[0].extend(_passes(plain, h, clock, PASSES_MIN))
        times[1].extend(_passes(other, h, clock, PASSES_MIN))
    return statistics.median(times[0]) / max(statistics.median(times[1]), 1e-9)


def _passes(module: nn.Module, h: Tensor, clock: Clock, most: int = PASSES_MAX) -> list[float]:
    times: list[float] = []
    while len(times) < PASSES_MIN or (len(times) < most and sum(times) < BUDGET_S):
        began = clock()
        run(module, h)
        times.append(clock() - began)
    return times


def _latency(times: list[float]) -> Latency:
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return Latency(statistics.median(ordered) * 1e3, p95 * 1e3)
