"""The pause between two epochs of a real growing run, part by part; a checkpoint is written at every one.

Beside the small network of the demo one of 10 million parameters is grown, whose boundaries mostly copy it:
`conservative` says how often that stopped its growth.
"""

from collections.abc import Sequence

from bench.large import WIDTHS, large_config, large_parts
from bench.measure import Budget, Size, percentiles
from bench.real_run import make_parts, mnist1d, real_run
from contracts.emergency import Trigger
from contracts.report import BoundaryFacts

BUDGETS = (
    Budget("total.p99_ms", 9.0),
    Budget("share_above_18ms", 0.0),
    Budget("boundaries", 300, "at_least"),
    Budget("large.conservative", 0),
    Budget("large.grafts", 1, "at_least"),
)
EPOCHS = {Size.SMALL: 14, Size.FULL: 360}
STEPS = {Size.SMALL: 4, Size.FULL: 40}
LARGE = {Size.SMALL: "0.1M", Size.FULL: "10M"}
LARGE_EPOCHS = {Size.SMALL: 14, Size.FULL: 60}


def run(size: Size) -> dict[str, object]:
    """Grow on MNIST-1D with the heuristic policy and take the boundaries' times from the run's record; then
    the same of the large network."""
    config = mnist1d(
        f"train.epoch_steps={STEPS[size]}", "checkpoint.every_s=0", policy="heuristic", epochs=EPOCHS[size]
    )
    outcome = real_run(make_parts(config))
    recorded = outcome.witness.recorder.recorded
    times = [facts.boundary_ms for facts in recorded.epochs if facts.boundary_ms is not None]
    budget_ms = config.budgets.epoch_boundary_ms
    return {
        **_parts(times),
        "share_above_18ms": sum(_above(one, budget_ms) for one in times) / len(times),
        "boundaries": len(times),
        "decisions_missing": recorded.late,
        "grafts": len(recorded.grafts),
        "large": _large(size),
    }


def _large(size: Size) -> dict[str, object]:
    parts = large_parts(WIDTHS[LARGE[size]], large_config(LARGE_EPOCHS[size]))
    recorded = real_run(parts).witness.recorder.recorded
    times = [facts.boundary_ms for facts in recorded.epochs if facts.boundary_ms is not None]
    return {
        **_parts(times),
        "boundaries": len(times),
        "parameters": recorded.epochs[-1].params,
        "decisions_missing": recorded.late,
        "conservative": sum(alert.name == Trigger.BOUNDARIES_SLOW for alert in recorded.alerts),
        "grafts": len(recorded.grafts),
    }


def _parts(times: Sequence[BoundaryFacts]) -> dict[str, object]:
    return {
        "keep": _part([one.keep for one in times]),
        "assemble": _part([one.assemble for one in times]),
        "decide": _part([one.decide for one in times]),
        "apply": _part([one.apply for one in times]),
        "total": _part([one.total for one in times]),
    }


def _part(times_ms: list[float]) -> dict[str, object]:
    return percentiles([time / 1e3 for time in times_ms]).figures("ms")


def _above(times: BoundaryFacts, budget_ms: float) -> bool:
    return times.total > budget_ms
