"""The benchmarks that look at real runs, at their small size: that they measure what they name."""

import pytest

from bench import boundary, loop_lag, overhead, resume
from bench.alternating import BLOCK, Alternating
from bench.measure import Size
from esper.tamiyo.baselines import NeverGrow

pytestmark = pytest.mark.real


def test_boundary_measures_every_boundary_and_its_parts() -> None:
    result = boundary.run(Size.SMALL)
    assert result["boundaries"] == boundary.EPOCHS[Size.SMALL] - 1
    large = result["large"]
    assert isinstance(large, dict)
    assert large["boundaries"] == boundary.LARGE_EPOCHS[Size.SMALL] - 1
    assert 90_000 < large["parameters"] < 200_000
    assert large["grafts"] == 1
    scraped = result["scraped"]
    assert isinstance(scraped, dict)
    assert scraped["boundaries"] == result["boundaries"]
    assert scraped["scrapes"] > 0
    for measured in (result, scraped, large):
        parts = [measured[name] for name in ("keep", "assemble", "decide", "apply", "total")]
        assert all(isinstance(part, dict) and part["n"] == measured["boundaries"] for part in parts)
        medians = [part["p50_ms"] for part in parts if isinstance(part, dict)]
        assert all(0 < median < medians[-1] for median in medians[:-1]), "each part is shorter than the whole"


def test_loop_lag_samples_the_whole_run() -> None:
    result = loop_lag.run(Size.SMALL)
    assert isinstance(result["n"], int)
    assert result["n"] > 5


def test_overhead_compares_the_same_work() -> None:
    result = overhead.run(Size.SMALL)
    dormant, seeded, small = result["dormant"], result["one_seed"], result["one_small_seed"]
    assert isinstance(dormant, dict)
    assert isinstance(seeded, dict)
    assert isinstance(small, dict)
    host, work = seeded["flops"]["host"], seeded["flops"]["with_seed"]
    assert set(host) == {"train", "validation"}
    assert {"train", "shadow", "gauge"} <= set(work)
    assert work["train"] == host["train"], "the host's steps are the same with an isolated seed"
    assert seeded["flops_ratio"] == sum(work.values()) / sum(host.values())
    assert 1.0 < small["flops_ratio"] < seeded["flops_ratio"] < 3.0, "a smaller seed is less work"
    for case in (dormant, seeded, small):
        assert 0 < case["ratio_low"] <= case["ratio"] <= case["ratio_high"]
        assert case["cpu_ratio"] > 0
        assert case["n"] == overhead.PAIRS[Size.SMALL]


def test_overhead_gives_each_side_its_turn() -> None:
    both = overhead._alternating(Size.SMALL, NeverGrow(), pairs=3)
    assert (len(both.esper_blocks), len(both.plain_blocks)) == (3, 4)
    assert all(block.wall_s > 0 and block.cpu_s > 0 for block in (*both.esper_blocks, *both.plain_blocks))
    trained = both.trainer.ledger.accounts()["train"]
    epochs = Alternating.epochs(pairs=3)
    assert both.spent["train"] * epochs == trained * 3 * BLOCK, "only the epochs of its blocks are counted"
    assert BLOCK % 2 == 0, "a seed is compared every second epoch"


def test_resume_ends_with_the_numbers_of_a_run_that_was_not_broken_off() -> None:
    result = resume.run(Size.SMALL)
    assert result["equal"] == 1.0
    assert result["rounds"] == 1
    parts = {name: result[name] for name in ("assemble", "open", "restore", "total")}
    medians = {name: part["p50_ms"] for name, part in parts.items() if isinstance(part, dict)}
    assert medians["total"] == pytest.approx(sum(medians.values()) - medians["total"])
    assert isinstance(result["bytes"], int)
    assert result["bytes"] > 1_000
