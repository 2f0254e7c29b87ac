"""The codec benchmark runs, and shows the figures it promises."""

from bench import codec
from bench.__main__ import figures
from bench.measure import Size


def test_the_codec_benchmark_gives_its_figures() -> None:
    found = dict(figures(codec.run(Size.SMALL)))
    each = [
        f"{name}.{way}.{figure}"
        for name in ("system_state", "command", "telemetry", "field_report")
        for way in ("encode", "decode")
        for figure in ("p50_us", "p99_us", "ratio_to_plain")
    ]
    assert {*each, "system_state.size_bytes", "command.size_bytes"} <= found.keys()
    assert all(
        value > 0 for name, value in found.items() if isinstance(value, int | float) and "spread" not in name
    )
    assert {budget.figure for budget in codec.BUDGETS} <= found.keys()


def test_the_state_that_is_measured_has_four_seeds_and_ten_metrics() -> None:
    assert (len(codec.STATE.seed_states), len(codec.STATE.training_metrics)) == (4, 10)
