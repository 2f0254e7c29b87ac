"""Figures as people read them; None is an em dash everywhere."""

import itertools
from collections.abc import Sequence
from decimal import Decimal

ABSENT = "—"
_BARS = "▁▂▃▄▅▆▇█"
_FLOPS = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"))


def count(value: int) -> str:
    """`5210` as `5,210`, and from ten million on as `12.3 M`."""
    if abs(value) < 10_000_000:
        return f"{value:,}"
    return f"{value / 1e9:,.2f} G" if abs(value) >= 1_000_000_000 else f"{value / 1e6:,.1f} M"


def counted(value: int, one: str, many: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{count(value)} {one if value == 1 else many}"


def flops(value: int) -> str:
    """`12_345_000_000` as `12.3 GFLOP`."""
    size, unit = flops_unit(int(float(f"{abs(value):.3g}")))  # as rounded: no 1,000 of a unit
    return f"{value} FLOP" if size == 1.0 else f"{significant(value / size)} {unit}"


def flops_unit(greatest: int) -> tuple[float, str]:
    """The unit in which values up to `greatest` are read best, and its size."""
    return next(((size, unit) for size, unit in _FLOPS if greatest >= size), (1.0, "FLOP"))


def gflop_above(value: int) -> str:
    """The least number with three digits that is, in GFLOP, no less than `value` FLOPs (1 or more): `704_001`
    as `0.000705`."""
    digits = max(0, len(str(value)) - 3)
    rounded = Decimal(-(-value // 10**digits) * 10**digits).scaleb(-9)
    return f"{rounded.normalize():f}"


def percent(share: float | None, digits: int = 1) -> str:
    """`0.8934` as `89.3 %`."""
    return ABSENT if share is None else f"{100 * share:.{digits}f} %"


def points(difference: float | None) -> str:
    """A difference of two shares: `0.143` as `+14.3 points`."""
    return ABSENT if difference is None else f"{minus(f'{100 * difference:+.1f}')} points"


def figure(value: float | None) -> str:
    """A loss or a gain with four decimals, or in powers of ten where those would hide it."""
    if value is None:
        return ABSENT
    plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return minus(f"{value:.4f}" if plain else f"{value:.2e}")


def signed(value: float | None) -> str:
    """The same with its sign."""
    text = figure(value)
    return f"+{text}" if value is not None and value > 0 else text


def significant(value: float) -> str:
    """Three significant digits without an exponent."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return minus(f"{value:,.{digits}f}")


def milliseconds(value: float | None) -> str:
    """`0.0312` as `31 µs`, `4.56` as `4.56 ms`."""
    if value is None:
        return ABSENT
    return f"{1000 * value:.0f} µs" if value < 0.1 else f"{significant(value)} ms"


def duration(seconds: float | None) -> str:
    """`3725` as `1 h 02 m`, `75` as `1 m 15 s`, `3.21` as `3.2 s`."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {rest:02d} s"


def plain(text: str) -> str:
    """What others wrote, with a question mark for each sign that is not to be printed."""
    return "".join(char if char.isprintable() else "?" for char in text)


def settings(values: dict[str, float]) -> str:
    """A blueprint's settings: `{"width": 8.0}` as `width 8`."""
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def minus(text: str) -> str:
    """With the typographic minus, which is as wide as a plus."""
    return text.replace("-", "−")


def bar(share: float, width: int) -> str:
    """A progress bar of `width` characters."""
    full = round(min(1.0, max(0.0, share)) * width)
    return "━" * full + "╌" * (width - full)


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The course of `values` in at most `width` characters, between their least and greatest.

    More values than characters are averaged in equal groups; a group with none measured is a blank.
    """
    if not values:
        return ""
    size = min(width, len(values))
    edges = [index * len(values) // size for index in range(size + 1)]
    groups = [_mean(values[a:b]) for a, b in itertools.pairwise(edges)]
    known = [value for value in groups if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    return "".join(" " if value is None else _BARS[_level(value, low, high)] for value in groups)


def _level(value: float, low: float, high: float) -> int:
    """Which of the bars; halves, because the span between two huge values may be more than a float holds."""
    span = high / 2 - low / 2
    return min(len(_BARS) - 1, int((value / 2 - low / 2) / span * len(_BARS))) if span > 0 else 0


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(value / len(known) for value in known) if known else None
