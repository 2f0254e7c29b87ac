"""Makes a run's report of what was recorded, and writes it so that no reader sees half of one."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from contracts.config import Config
from contracts.growth import OperationFigures
from contracts.report import (
    BoundaryQuantiles,
    Brought,
    BusFigures,
    CommandFacts,
    Comparison,
    Ending,
    EpochFacts,
    Figure,
    FinalFacts,
    HostFacts,
    KernelFacts,
    PartQuantiles,
    Report,
    VerdictFacts,
)
from esper.folder import write_whole
from esper.report.record import Recorded, finite, measured

REPORT = "report.json"
PAGE = "report.html"


class Closing(msgspec.Struct, frozen=True):
    """What is known of a run once it is over."""

    config: Config
    """As resolved: with the workload, policy and length that were really used."""
    versions: dict[str, str]
    host_params: int
    final: FinalFacts
    flops: dict[str, int]
    bus: BusFigures
    wall_s: float
    ended: Ending = Ending()
    compare: Comparison | None = None
    run_id: str = ""
    kernels: KernelFacts = KernelFacts()
    operations: tuple[OperationFigures, ...] = ()
    policy: str = ""
    """Who really decided; empty if it was the configured one."""


def build(recorded: Recorded, closing: Closing) -> Report:
    """The report of a run."""
    config = closing.config
    return Report(
        workload=config.run.workload,
        policy=closing.policy or config.run.policy,
        seed=config.run.seed,
        versions=closing.versions,
        host=HostFacts(closing.host_params),
        epochs=tuple(recorded.epochs),
        grafts=tuple(recorded.grafts.values()),
        final=_finite_final(closing.final),
        bus=closing.bus,
        alerts=tuple(recorded.alerts),
        policy_updates=tuple(recorded.policy_updates),
        wall_s=closing.wall_s,
        ended=closing.ended,
        boundary=boundary(recorded.epochs, config.budgets.epoch_boundary_ms),
        flops=closing.flops,
        probes=tuple(recorded.probes),
        commands=CommandFacts(dict(recorded.applied), tuple(recorded.refused), recorded.late),
        verdicts=VerdictFacts(dict(recorded.passed), tuple(recorded.failed)),
        config=config,
        kernels=closing.kernels,
        compare=closing.compare,
        operations=closing.operations,
        rollbacks=tuple(recorded.rollbacks),
        resumes=tuple(recorded.resumes),
        run_id=closing.run_id,
    )


def comparison(grown: FinalFacts, ungrown: FinalFacts, epochs: Sequence[EpochFacts]) -> Comparison:
    """The grown network beside the same host ungrown."""
    return Comparison(
        final=_finite_final(ungrown),
        epochs=tuple(measured(facts) for facts in epochs),
        brought=Brought(
            val_accuracy=_minus(grown.val_accuracy, ungrown.val_accuracy),
            test_accuracy=_minus(grown.test_accuracy, ungrown.test_accuracy),
            fresh_accuracy=_minus(grown.fresh_accuracy, ungrown.fresh_accuracy),
            test_loss=_minus(grown.test_loss, ungrown.test_loss),
            params=grown.params - ungrown.params,
            train_flops=grown.train_flops - ungrown.train_flops,
        ),
    )


def boundary(epochs: Sequence[EpochFacts], budget_ms: float) -> BoundaryQuantiles:
    """Median, tail and worst of the boundary's times, and the share of epochs above the budget."""
    times = [facts.boundary_ms for facts in epochs if facts.boundary_ms is not None]
    if not times:
        return BoundaryQuantiles(budget_ms)
    return BoundaryQuantiles(
        budget_ms=budget_ms,
        n=len(times),
        share_above_budget=sum(time.total > budget_ms for time in times) / len(times),
        assemble=_quantiles([time.assemble for time in times]),
        decide=_quantiles([time.decide for time in times]),
        apply=_quantiles([time.apply for time in times]),
        total=_quantiles([time.total for time in times]),
        keep=_quantiles([time.keep for time in times]),
    )


def write(report: Report, folder: Path, page: str, between: Callable[[], object] = lambda: None) -> None:
    """Write `report.json` and `report.html` (the text `page`) into `folder`, whole or not at all.

    `between` writes what matters less than the figures and more than the page.
    """
    write_whole(folder / REPORT, msgspec.json.format(msgspec.json.encode(report), indent=1))
    between()
    write_whole(folder / PAGE, page.encode())


def read(file: Path) -> Report:
    """The report in `file`; `msgspec.ValidationError` names what does not fit schema 1."""
    return msgspec.json.decode(file.read_bytes(), type=Report)


def _quantiles(times_ms: Sequence[float]) -> PartQuantiles:
    """Median, 99th percentile by nearest rank, and maximum."""
    ordered = sorted(times_ms)
    return PartQuantiles(
        p50_ms=statistics.median(ordered),
        p99_ms=ordered[math.ceil(0.99 * len(ordered)) - 1],
        max_ms=ordered[-1],
    )


def _minus(grown: Figure, ungrown: Figure) -> Figure:
    grown, ungrown = finite(grown), finite(ungrown)
    return None if grown is None or ungrown is None else grown - ungrown


def _finite_final(final: FinalFacts) -> FinalFacts:
    return msgspec.structs.replace(
        final,
        val_accuracy=finite(final.val_accuracy),
        test_accuracy=finite(final.test_accuracy),
        fresh_accuracy=finite(final.fresh_accuracy),
        test_loss=finite(final.test_loss),
    )
