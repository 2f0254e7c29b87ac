"""The pause between two epochs of a real growing run, part by part; every epoch writes a checkpoint."""

from bench.measure import Budget, Size, percentiles
from bench.real_run import make_parts, mnist1d, real_run
from contracts.report import BoundaryFacts

BUDGETS = (
    Budget("total.p99_ms", 9.0),
    Budget("share_above_18ms", 0.0),
    Budget("boundaries", 300, "at_least"),
)
EPOCHS = {Size.SMALL: 14, Size.FULL: 360}
STEPS = {Size.SMALL: 4, Size.FULL: 40}


def run(size: Size) -> dict[str, object]:
    """Grow on MNIST-1D with the heuristic policy and take the boundaries' times from the run's record."""
    config = mnist1d(
        f"train.epoch_steps={STEPS[size]}", "checkpoint.every_s=0", policy="heuristic", epochs=EPOCHS[size]
    )
    outcome = real_run(make_parts(config))
    recorded = outcome.witness.recorder.recorded
    times = [facts.boundary_ms for facts in recorded.epochs if facts.boundary_ms is not None]
    budget_ms = config.budgets.epoch_boundary_ms
    return {
        "keep": _part([one.keep for one in times]),
        "assemble": _part([one.assemble for one in times]),
        "decide": _part([one.decide for one in times]),
        "apply": _part([one.apply for one in times]),
        "total": _part([one.total for one in times]),
        "share_above_18ms": sum(_above(one, budget_ms) for one in times) / len(times),
        "boundaries": len(times),
        "decisions_missing": recorded.late,
        "grafts": len(recorded.grafts),
    }


def _part(times_ms: list[float]) -> dict[str, object]:
    return percentiles([time / 1e3 for time in times_ms]).figures("ms")


def _above(times: BoundaryFacts, budget_ms: float) -> bool:
    return times.total > budget_ms
