"""The codec benchmark runs, and shows the figures it promises."""

from bench import codec
from bench.__main__ import figures
from bench.measure import Size
from bench.messages import REPORT, STATE, TELEMETRY


def test_the_codec_benchmark_gives_its_figures() -> None:
    found = dict(figures(codec.run(Size.SMALL)))
    each = [
        f"{name}.{way}.{figure}"
        for name in ("system_state", "command", "telemetry", "field_report")
        for way in ("encode", "decode")
        for figure in ("p50_us", "p99_us", "ratio_to_plain", "plain_p50_us")
    ]
    assert {*each, "system_state.size_bytes", "command.size_bytes"} <= found.keys()
    for name in codec.LOOP:
        ways = ("constructors", "attributes")
        ratios = {way: found[f"{name}.encode.ratio_to_{way}"] for way in ways}
        assert found[f"{name}.encode.ratio_to_plain"] == max(ratios.values()), "beside the quicker way"
        assert ratios[found[f"{name}.encode.plain"]] == max(ratios.values())
    assert all(
        value > 0 for name, value in found.items() if isinstance(value, int | float) and "spread" not in name
    )
    assert {budget.figure for budget in codec.BUDGETS} <= found.keys()


def test_what_is_measured_has_four_seeds_and_ten_metrics() -> None:
    assert (len(STATE.seed_states), len(STATE.training_metrics)) == (4, 10)
    assert len({point.name for point in TELEMETRY.metrics}) == len(REPORT.metrics) == 10
