"""One kind of drawing: values over epochs or FLOPs, as lines or dots, with marks and hover texts."""

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import msgspec
from markupsafe import Markup

from esper.report import svg
from esper.report.scale import Scale, around, tick_text
from esper.report.thin import Point, runs, thin

WIDTH, HEIGHT = 520.0, 290.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 14.0, 12.0, 40.0
_LANE = 15.0
_LANES_MOST = 4
_CHARACTER = 6.4
"""Width of a character of a mark's label, about."""
_TEXT_HEIGHT = 12.0
_POINTS_MOST = 400
_DOTS_MOST = 2_500
_STRIPS_MOST = 100

Wording: TypeAlias = Callable[[float], str]


class Series(msgspec.Struct, frozen=True):
    """Values of one thing; `class_` gives its colour."""

    name: str
    points: tuple[tuple[float, float | None], ...]
    class_: str
    dotted: bool = False
    """Drawn as dots rather than as a line."""


class Mark(msgspec.Struct, frozen=True):
    """Something that happened at `x`: a dotted vertical line with a label."""

    x: float
    label: str
    title: str
    class_: str = "mark"


class Level(msgspec.Struct, frozen=True):
    """A horizontal line with a label."""

    y: float
    label: str
    class_: str = "level"


class Chart(msgspec.Struct, frozen=True):
    """What is drawn; `x_name` stands below the axis and before the value in hover texts."""

    title: str
    x_name: str
    series: tuple[Series, ...]
    wording: Wording
    """A value in words, for hover texts."""
    unit: str = ""
    """Stands behind the numbers of the vertical axis."""
    unit_share: float = 1.0
    """What one unit is: 0.01 for percent."""
    marks: tuple[Mark, ...] = ()
    levels: tuple[Level, ...] = ()
    log_from: float = math.inf
    """Greatest over least value from which the vertical axis is logarithmic."""
    least_span: float = 0.0


def draw(chart: Chart) -> Markup:
    """The chart as SVG."""
    lanes = _lanes(chart)
    top = _TOP + _LANE * min(_LANES_MOST, max(lanes, default=-1) + 1)
    x, y = _x_scale(chart), _y_scale(chart, top)
    return svg.drawing(
        WIDTH,
        HEIGHT,
        chart.title,
        *_axes(chart, x, y),
        *(_mark(mark, lane, x, y) for mark, lane in zip(chart.marks, lanes, strict=True)),
        *(_series(series, x, y) for series in chart.series),
        *_levels(chart.levels, y),
        *_strips(chart, x, y),
    )


def _x_scale(chart: Chart) -> Scale:
    values = [x for series in chart.series for x, _ in series.points]
    return Scale(0.0, max(values, default=1.0), _LEFT, WIDTH - _RIGHT)


def _y_scale(chart: Chart, top: float) -> Scale:
    """From the bottom up; logarithmic where that is allowed and the values span far."""
    values = [y for series in chart.series for _, y in series.points if y is not None]
    values += [level.y for level in chart.levels]
    bottom = HEIGHT - _BOTTOM
    if values and min(values) > 0 and max(values) >= chart.log_from * min(values):
        return Scale(min(values) / 1.15, max(values) * 1.15, bottom, top, log=True)
    low, high = around(values, chart.least_span)
    return Scale(low, high, bottom, top)


def _axes(chart: Chart, x: Scale, y: Scale) -> list[Markup]:
    """Grid lines with their numbers, and the name of the horizontal axis."""
    found = []
    heights = y.ticks(5)
    step = heights[1] - heights[0] if len(heights) > 1 and not y.log else 0.0
    for value in heights:
        number = tick_text(value / chart.unit_share, step / chart.unit_share)
        found.append(svg.line(_LEFT, y(value), WIDTH - _RIGHT, y(value), "grid"))
        found.append(svg.text(_LEFT - 6, y(value) + 4, number + chart.unit, "tick", "end"))
    return [*found, *x_axis(x, y.start, chart.x_name)]


def x_axis(x: Scale, height: float, name: str) -> list[Markup]:
    """The horizontal axis at `height`, with its numbers and its name below."""
    found = [svg.line(x.start, height, x.end, height, "axis")]
    columns = x.ticks(7)
    step = columns[1] - columns[0] if len(columns) > 1 else 1.0
    for value in columns:
        at = x(value)
        anchor = "end" if at > WIDTH - 20 else "middle"
        found.append(svg.line(at, height, at, height + 4, "axis"))
        beside = WIDTH - 2 if anchor == "end" else at
        found.append(svg.text(beside, height + 17, tick_text(value, step), "tick", anchor))
    found.append(svg.text((x.start + x.end) / 2, height + 34, name, "name", "middle"))
    return found


def _series(series: Series, x: Scale, y: Scale) -> Markup:
    pieces = list(runs(series.points))
    total = sum(map(len, pieces)) or 1
    most = _DOTS_MOST if series.dotted else _POINTS_MOST
    drawn = [[(x(a), y(b)) for a, b in thin(piece, max(4, most * len(piece) // total))] for piece in pieces]
    if series.dotted:
        return svg.dots([point for piece in drawn for point in piece], f"dots {series.class_}")
    return svg.path(drawn, f"curve {series.class_}")


def _levels(levels: Sequence[Level], y: Scale) -> Iterator[Markup]:
    """The lines, each with its label above; below, where another label is in the way."""
    taken: list[float] = []
    for level in levels:
        at = y(level.y)
        beside = at - 4
        if any(abs(beside - other) < _TEXT_HEIGHT for other in taken):
            beside = at + _TEXT_HEIGHT
        taken.append(beside)
        yield svg.tag(
            "g",
            svg.line(_LEFT, at, WIDTH - _RIGHT, at, level.class_),
            svg.text(WIDTH - _RIGHT - 2, beside, level.label, f"{level.class_}-text", "end"),
        )


def _mark(mark: Mark, lane: int, x: Scale, y: Scale) -> Markup:
    """The line and, as long as there are lanes for them, the label."""
    at, height = x(mark.x), _TOP + _LANE * lane + 2
    fits = lane < _LANES_MOST
    anchor = _anchor(mark, at)
    beside = at - 4 if anchor == "end" else at + 4
    label = [svg.text(beside, height, mark.label, "mark-text", anchor)] if fits else []
    line = svg.line(at, height - 8 if fits else y.end, at, y.start, f"dotted {mark.class_}")
    wide = svg.line(at, y.end - _LANE, at, y.start, "catch")
    return svg.tag("g", svg.tag("title", mark.title), line, wide, *label)


def _anchor(mark: Mark, at: float) -> str:
    return "end" if at + _CHARACTER * len(mark.label) > WIDTH else "start"


def _lanes(chart: Chart) -> list[int]:
    """For each mark the first row above the plot in which its label overlaps no other's."""
    x, ends, found = _x_scale(chart), list[list[Point]](), list[int]()
    for mark in chart.marks:
        at, width = x(mark.x), _CHARACTER * len(mark.label) + 8
        start = at - width if _anchor(mark, at) == "end" else at
        lane = next((i for i, row in enumerate(ends) if _free(row, start, start + width)), len(ends))
        if lane == len(ends):
            ends.append([])
        ends[lane].append((start, start + width))
        found.append(lane)
    return found


def _free(row: Sequence[Point], start: float, end: float) -> bool:
    return all(end <= left or start >= right for left, right in row)


def _strips(chart: Chart, x: Scale, y: Scale) -> list[Markup]:
    """Unseen columns over the plot that say the values below them."""
    xs = sorted({value for series in chart.series for value, _ in series.points})
    count = min(_STRIPS_MOST, len(xs))
    if not count:
        return []
    width, found = (x.end - x.start) / count, list[Markup]()
    for index in range(count):
        at = xs[(2 * index + 1) * len(xs) // (2 * count)]
        left = min(x.end - width, max(x.start, x(at) - width / 2))
        found.append(svg.rect(left, y.end, width, y.start - y.end, "strip", _strip_text(chart, at)))
    return found


def _strip_text(chart: Chart, at: float) -> str:
    lines = [f"{chart.x_name} {at:,.6g}"]
    for series in chart.series:
        value = _nearest(series.points, at)
        if value is not None:
            lines.append(f"{series.name} {chart.wording(value)}")
    return "\n".join(lines)


def _nearest(points: Sequence[tuple[float, float | None]], at: float) -> float | None:
    """The value at the first point from `at` on; None past the end."""
    index = bisect.bisect_left(points, at, key=lambda point: point[0])
    return points[index][1] if index < len(points) else None
