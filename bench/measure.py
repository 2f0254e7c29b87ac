"""What every benchmark shares: sizes, budgets, percentiles, and comparisons made in turn."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Literal

import msgspec


class Size(StrEnum):
    """How much a benchmark does: `SMALL` runs inside a test, `FULL` gives the published figures."""

    SMALL = "small"
    FULL = "full"


class Budget(msgspec.Struct, frozen=True):
    """A limit on one figure; `figure` is its dotted path inside the benchmark's own result."""

    figure: str
    limit: float
    sense: Literal["at_most", "at_least"] = "at_most"

    def holds(self, value: float) -> bool:
        """Whether `value` keeps the limit; NaN never does."""
        return value <= self.limit if self.sense == "at_most" else value >= self.limit


class Quantiles(msgspec.Struct, frozen=True):
    """Median, tail, worst and spread of `n` durations, all in seconds.

    `spread` is the distance between the quartiles: it says how far the median can be trusted.
    """

    p50: float
    p99: float
    max: float
    spread: float
    n: int

    def figures(self, unit: Literal["ms", "us"]) -> dict[str, object]:
        """The same as named figures, for example `p50_us`, `p99_us`, `max_us`, `spread_us` and `n`."""
        scale = 1e3 if unit == "ms" else 1e6
        return {
            f"p50_{unit}": self.p50 * scale,
            f"p99_{unit}": self.p99 * scale,
            f"max_{unit}": self.max * scale,
            f"spread_{unit}": self.spread * scale,
            "n": self.n,
        }


class Ratio(msgspec.Struct, frozen=True):
    """How one side of a paired comparison relates to the other, over `n` rounds."""

    median: float
    spread: float
    n: int


def percentiles(samples_s: Sequence[float]) -> Quantiles:
    """Summarise durations in seconds; `ValueError` if there are none."""
    if not samples_s:
        raise ValueError("percentiles of no samples; measure at least one")
    ordered = sorted(samples_s)
    return Quantiles(
        p50=statistics.median(ordered),
        p99=_nearest_rank(ordered, 0.99),
        max=ordered[-1],
        spread=_nearest_rank(ordered, 0.75) - _nearest_rank(ordered, 0.25),
        n=len(ordered),
    )


def ratio_of(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Median and spread of the ratios of figures measured in the same rounds."""
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    spread = _nearest_rank(ratios, 0.75) - _nearest_rank(ratios, 0.25)
    return Ratio(median=statistics.median(ratios), spread=spread, n=len(ratios))


def in_turn(a: Callable[[], object], b: Callable[[], object], rounds: int) -> Ratio:
    """Time `a` against `b`, alternating which goes first, and return the ratio of `a` to `b`.

    Pairs are compared within a round, so a machine that is slow for a while slows both sides alike.
    One unmeasured round warms both up.
    """
    seconds(a)
    seconds(b)
    a_s: list[float] = []
    b_s: list[float] = []
    for round_number in range(rounds):
        if round_number % 2 == 0:
            a_s.append(seconds(a))
            b_s.append(seconds(b))
        else:
            b_s.append(seconds(b))
            a_s.append(seconds(a))
    return ratio_of(a_s, b_s)


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _nearest_rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
