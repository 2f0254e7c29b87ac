"""Latencies are of the clock that is passed in, and the median is not moved by an outlier."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from esper.tezzeret.timing import PASSES_MAX, PASSES_MIN, WARM_UP, latency, ratio

H = torch.ones(2, 3)


class Work(nn.Module):
    """Takes `seconds(n)` of the shared clock for its n-th pass."""

    def __init__(self, clock: list[float], seconds: Callable[[int], float]) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))
        self.passes = 0
        self._clock = clock
        self._seconds = seconds

    def forward(self, h: Tensor) -> Tensor:
        self._clock[0] += self._seconds(self.passes)
        self.passes += 1
        return self.gain * h


def test_the_median_and_the_95th_percentile_come_from_the_passes_after_the_warm_up() -> None:
    clock = [0.0]
    work = Work(clock, lambda n: 9.0 if n < WARM_UP else 0.05 if n == WARM_UP + 4 else 0.001)
    pace = latency(work, H, lambda: clock[0])
    assert pace.p50_ms == pytest.approx(1.0)
    assert pace.p95_ms == pytest.approx(1.0)
    assert work.passes == WARM_UP + PASSES_MAX


def test_a_slow_module_is_timed_only_as_often_as_needed() -> None:
    clock = [0.0]
    work = Work(clock, lambda n: 2.0)
    assert latency(work, H, lambda: clock[0]).p95_ms == pytest.approx(2000.0)
    assert work.passes == WARM_UP + PASSES_MIN


def test_a_ratio_is_above_one_where_the_other_is_faster() -> None:
    clock = [0.0]
    plain, other = Work(clock, lambda n: 0.003), Work(clock, lambda n: 0.002)
    assert ratio(plain, other, H, lambda: clock[0]) == pytest.approx(1.5)
    assert plain.passes == other.passes
