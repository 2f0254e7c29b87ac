"""The bus benchmark runs, and shows the figures it promises."""

from bench import bus
from bench.__main__ import figures
from bench.measure import Size


def test_the_bus_benchmark_gives_its_figures() -> None:
    found = dict(figures(bus.run(Size.SMALL)))
    assert {
        "throughput_per_s",
        "throughput_per_cpu_s",
        "publish.p50_us",
        "publish.p99_us",
        "delivery.p50_us",
        "delivery.p99_us",
        "ratio_to_asyncio_queue",
    } <= set(found)
    assert all(value > 0 for value in found.values() if isinstance(value, int | float))
    assert {budget.figure for budget in bus.BUDGETS} <= set(found)


def test_the_throughput_that_the_bus_must_have_is_gated() -> None:
    (budget,) = [each for each in bus.BUDGETS if each.figure == "throughput_per_cpu_s"]
    assert budget.holds(150_000.0)
    assert not budget.holds(149_999.0)
