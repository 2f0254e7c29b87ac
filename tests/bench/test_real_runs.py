"""The benchmarks that look at real runs, at their small size: that they measure what they name."""

import pytest

from bench import boundary, loop_lag, overhead
from bench.measure import Size

pytestmark = pytest.mark.real


def test_boundary_measures_every_boundary_and_its_parts() -> None:
    result = boundary.run(Size.SMALL)
    assert result["boundaries"] == boundary.EPOCHS[Size.SMALL] - 1
    parts = [result[name] for name in ("assemble", "decide", "apply", "total")]
    assert all(isinstance(part, dict) and part["n"] == result["boundaries"] for part in parts)
    medians = [part["p50_ms"] for part in parts if isinstance(part, dict)]
    assert all(0 < median < medians[-1] for median in medians[:-1]), "each part is shorter than the whole"


def test_loop_lag_samples_the_whole_run() -> None:
    result = loop_lag.run(Size.SMALL)
    assert isinstance(result["n"], int)
    assert result["n"] > 5


def test_overhead_compares_the_same_work() -> None:
    result = overhead.run(Size.SMALL)
    seeded, dormant = result["one_seed"], result["dormant"]
    assert isinstance(seeded, dict)
    assert isinstance(dormant, dict)
    assert 1.0 < seeded["flops_ratio"] < 3.0, "the seed's passes are counted, and are fewer than the host's"
    assert dormant["ratio"] > 0
    assert dormant["n"] == overhead.ROUNDS[Size.SMALL]
