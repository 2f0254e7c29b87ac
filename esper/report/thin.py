"""Fewer points that draw the same line: first, last, lowest and highest of every stretch are kept."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` (4 or more) of `points`, in their order, with both ends and all extremes kept."""
    if len(points) <= most:
        return list(points)
    stretches = (most - 2) // 2
    inner = points[1:-1]
    kept = [points[0]]
    for index in range(stretches):
        stretch = inner[index * len(inner) // stretches : (index + 1) * len(inner) // stretches]
        kept.extend(_extremes(stretch))
    return [*kept, points[-1]]


def runs(points: Sequence[tuple[float, float | None]]) -> Iterator[list[Point]]:
    """The stretches without a missing value."""
    run: list[Point] = []
    for x, y in points:
        if y is not None:
            run.append((x, y))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _extremes(stretch: Sequence[Point]) -> list[Point]:
    """The lowest and the highest point of a stretch that is not empty, in their order."""
    heights = [y for _, y in stretch]
    found = sorted({heights.index(min(heights)), heights.index(max(heights))})
    return [stretch[index] for index in found]
