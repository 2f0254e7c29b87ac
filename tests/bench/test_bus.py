"""The bus benchmark runs, and shows the figures it promises."""

from bench import bus
from bench.__main__ import figures
from bench.measure import Size


def test_the_bus_benchmark_gives_its_figures() -> None:
    found = dict(figures(bus.run(Size.SMALL)))
    assert {
        "throughput_per_s",
        "publish.p50_us",
        "publish.p99_us",
        "delivery.p50_us",
        "delivery.p99_us",
        "ratio_to_asyncio_queue",
    } <= set(found)
    assert all(value > 0 for value in found.values() if isinstance(value, int | float))
    assert {budget.figure for budget in bus.BUDGETS} <= set(found)
