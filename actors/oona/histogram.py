"""Counts of durations in fixed buckets, cheap enough for every message."""

from bisect import bisect_left
from typing import Final

import msgspec

BOUNDS_S: Final = (
    50e-6, 100e-6, 250e-6, 500e-6, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0,
)  # fmt: skip


class HistogramSnapshot(msgspec.Struct, frozen=True):
    """`counts[i]` durations were at most `BOUNDS_S[i]` seconds and above the bound before."""

    counts: tuple[int, ...]
    sum_s: float

    def quantile(self, share: float) -> float:
        """Upper bound, in seconds, of the bucket that holds the `share` (0 to 1) quantile; 0 when empty."""
        wanted = share * sum(self.counts)
        seen = 0
        for bound_s, count in zip((*BOUNDS_S, float("inf")), self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound_s
        return 0.0


class Histogram:
    """Durations in seconds."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        self._counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self._sum_s += duration_s

    def snapshot(self) -> HistogramSnapshot:
        return HistogramSnapshot(tuple(self._counts), self._sum_s)
