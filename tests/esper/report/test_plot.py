"""Labels of a drawing stay apart."""

import re

from esper.report.plot import Chart, Level, Series, draw


def label_heights(*levels: float) -> list[float]:
    series = Series("time", ((0.0, 1.0), (10.0, 20.0)), "line")
    chart = Chart(
        "a chart", "epoch", (series,), str, levels=tuple(Level(y, f"level {y}", "budget") for y in levels)
    )
    drawn = re.findall(r'y="([\d.]+)"[^>]*>level ', str(draw(chart)))
    assert len(drawn) == len(levels)
    return [float(y) for y in drawn]


def test_labels_of_levels_that_lie_close_do_not_overlap() -> None:
    budget, close = label_heights(18.0, 17.8)
    assert abs(budget - close) >= 11.0
    apart, far = label_heights(18.0, 4.0)
    assert abs(apart - budget) < 2.0
    assert far - apart > 50.0
