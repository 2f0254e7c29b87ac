"""Thinned points draw the same line."""

from hypothesis import given
from hypothesis import strategies as st

from esper.report.thin import runs, thin

HEIGHTS = st.lists(st.floats(-1e6, 1e6), max_size=400)
HEIGHTS_OR_NONE = st.lists(st.none() | st.floats(-1e6, 1e6), max_size=100)


@given(HEIGHTS, st.integers(4, 80))
def test_thinning_keeps_ends_and_extremes_and_order(heights: list[float], most: int) -> None:
    points = [(float(x), y) for x, y in enumerate(heights)]
    kept = thin(points, most)
    assert len(kept) <= max(most, 0)
    assert kept == sorted(kept)
    assert set(kept) <= set(points)
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
        assert {min(y for _, y in kept), max(y for _, y in kept)} == {min(heights), max(heights)}


@given(HEIGHTS_OR_NONE)
def test_runs_hold_every_measured_point_and_no_other(heights: list[float | None]) -> None:
    points = [(float(x), y) for x, y in enumerate(heights)]
    found = list(runs(points))
    assert [point for run in found for point in run] == [point for point in points if point[1] is not None]
    assert all(found)
    assert len(found) == sum(
        y is not None and (x == 0 or heights[x - 1] is None) for x, y in enumerate(heights)
    )
