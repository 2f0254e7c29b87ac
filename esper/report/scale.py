"""Axes: where a value stands in a drawing, and the round numbers beside it."""

import math
from collections.abc import Sequence

import msgspec

_FARTHEST = 1e300
"""What is farther out is drawn at the edge, so that a range's width stays a finite number."""


class Scale(msgspec.Struct, frozen=True):
    """Maps `low`..`high` to the coordinates `start`..`end`; logarithmic if `log` (both above 0)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The coordinate of `value`; what lies outside is put on the edge."""
        inside = min(self.high, max(self.low, value))
        return self.start + (self.end - self.start) * self._share(inside)

    def _share(self, value: float) -> float:
        if self.high <= self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values along the scale, at most about `most`."""
        return log_ticks(self.low, self.high, most) if self.log else ticks(self.low, self.high, most)


def step_of(span: float, most: int) -> float:
    """The least of 1, 2, 5 times a power of ten that goes at most `most` times into `span`."""
    rough = span / most
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of a round step within `low`..`high`, ascending, at most `most` (3 or more) + 1."""
    if not high > low:
        return [low]
    step = step_of(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values within `low`..`high` (above 0): 1, 2, 5 times powers of ten, or powers alone."""
    if not high > low:
        return [low]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**k for k in decades for f in factors]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) <= most + 1:
            return found or ticks(low, high, most) or [low]
    return found[:: math.ceil(len(found) / most)]


def around(values: Sequence[float], least: float = 0.0) -> tuple[float, float]:
    """A range that holds all `values` with a little air, at least `least` wide; 0..1 for none."""
    if not values:
        return 0.0, 1.0
    low, high = max(min(values), -_FARTHEST), min(max(values), _FARTHEST)
    missing = max(0.0, max(least, 1e-9 * max(abs(low), abs(high)), 1e-12) - (high - low))
    low, high = low - missing / 2, high + missing / 2
    air = 0.04 * (high - low)
    return low - air, high + air


def tick_text(value: float, step: float) -> str:
    """A tick's number with no more digits than the step between ticks needs; step 0 is "no even steps"."""
    if value == 0:
        return "0"
    if step <= 0:
        return f"{value:g}"
    if abs(value) >= 10_000 or abs(value) < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"
