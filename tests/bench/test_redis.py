"""The benchmark of the Redis bus runs, and shows the figures it promises."""

from bench import redis
from bench.__main__ import figures
from bench.measure import Size


def test_the_redis_benchmark_gives_its_figures() -> None:
    found = dict(figures(redis.run(Size.SMALL)))
    assert {
        "throughput_per_s",
        "client_cpu_us",
        "server_cpu_us",
        "apart.throughput_per_s",
        "apart.publisher_cpu_us",
        "apart.consumer_cpu_us",
        "publish.p50_ms",
        "publish.p95_ms",
        "delivery.p50_ms",
        "delivery.p95_ms",
        "native_per_s",
        "ratio_to_native",
    } <= set(found)
    assert all(value >= 0 for value in found.values() if isinstance(value, int | float))
    assert found["client_cpu_us"] > 0 < found["server_cpu_us"]  # type: ignore[operator]
    assert {budget.figure for budget in redis.BUDGETS} <= set(found)
