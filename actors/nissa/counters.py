"""The plain numbers that a run counts in its hot paths; Nissa's instruments read them.

Adding one to an integer costs 0.05 µs and one of these histograms 0.15, an OpenTelemetry counter 8
to 12. So whatever happens often
is counted here, by the part that it happens to, and read by whoever asks. Two rules keep that safe
without a lock: **a number has one writing thread** (any thread may read), and the keys of a
dictionary are all there from the start, so that a misspelled one is a `KeyError` and no label set
can grow.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from contracts.lifecycle import Gate, Stage
from contracts.messages import FieldReportOutcome

BOUNDARY_BUCKETS_S = (0.002, 0.005, 0.010, 0.012, 0.015, 0.018, 0.025, 0.050, 0.1, 0.5)
PART_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.010, 0.012, 0.015, 0.018, 0.050)
"""The budgets of a boundary and its parts, 18, 3, 12 and 2 ms, are bounds: what broke one can be read off."""
PROBE_BUCKETS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LAG_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.010, 0.020, 0.050, 0.1, 0.5)
RENDER_BUCKETS_S = (0.002, 0.005, 0.010, 0.020, 0.050)

FLOP_ACCOUNTS = ("train", "shadow", "conflict", "probe", "gauge", "counterfactual", "validation")
"""What training FLOPs are spent on: the benchmark's budget is their sum."""
GRAFT_OUTCOMES = ("fossilized", "culled", "rolled_back", "terminated")
COMMAND_ANSWERS = ("applied", "refused")


class Histogram:
    """How often a figure fell into each of a few fixed buckets, and the sum of all figures.

    A bucket holds what is at most its upper bound and above the one before; the last has no bound.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"buckets {bounds} don't rise; give upper bounds from small to large")
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def record(self, value: float) -> None:
        """Count one figure, not NaN."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """The upper bound of the bucket that the `share` quantile falls into.

        Infinity above the last bound, NaN if nothing was recorded: a bucket's bound is all that is
        known, so nothing is interpolated.
        """
        counts = list(self.counts)
        rank, seen = math.ceil(share * sum(counts)), 0
        if rank == 0:
            return math.nan
        for bound, count in zip((*self.bounds, math.inf), counts, strict=True):
            seen += count
            if seen >= rank:
                return bound
        raise AssertionError("the rank is at most the count")


def _by_gate() -> dict[Gate, int]:
    return {gate: 0 for gate in Gate if gate is not Gate.UNKNOWN}


@dataclass(slots=True)
class BoundaryCounters:
    """The pauses between epochs; written by the training thread."""

    budget_s: float = 0.018
    """A longer boundary is counted as over budget."""
    duration: Histogram = field(default_factory=lambda: Histogram(BOUNDARY_BUCKETS_S))
    assemble: Histogram = field(default_factory=lambda: Histogram(PART_BUCKETS_S))
    decide: Histogram = field(default_factory=lambda: Histogram(PART_BUCKETS_S))
    apply: Histogram = field(default_factory=lambda: Histogram(PART_BUCKETS_S))
    keep: Histogram = field(default_factory=lambda: Histogram(PART_BUCKETS_S))
    over_budget: int = 0
    decision_timeouts: int = 0
    """Boundaries that went on with "do nothing" because no decision came in time."""

    def record(
        self, assemble_s: float, decide_s: float, apply_s: float, total_s: float, keep_s: float = 0.0
    ) -> None:
        """Count one boundary and its parts, in seconds."""
        self.keep.record(keep_s)
        self.assemble.record(assemble_s)
        self.decide.record(decide_s)
        self.apply.record(apply_s)
        self.duration.record(total_s)
        if total_s > self.budget_s:
            self.over_budget += 1


@dataclass(slots=True)
class TrainingCounters:
    """How training goes; written by the training thread. NaN is "not measured yet"."""

    epochs: int = 0
    steps: int = 0
    loss: float = math.nan
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    """A fraction, 0 to 1."""
    learning_rate: float = math.nan
    """The host group's."""
    host_params: int = 0
    grown_params: int = 0
    """Parameters that growth added, without the host's own."""
    flops: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FLOP_ACCOUNTS, 0))


@dataclass(slots=True)
class GrowthCounters:
    """What was tried and what came of it; written at boundaries."""

    seeds: dict[Stage, int] = field(
        default_factory=lambda: {stage: 0 for stage in Stage if stage is not Stage.UNKNOWN}
    )
    """Seeds now in each stage."""
    grafts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(GRAFT_OUTCOMES, 0))
    gates_passed: dict[Gate, int] = field(default_factory=_by_gate)
    gates_failed: dict[Gate, int] = field(default_factory=_by_gate)
    commands: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMMAND_ANSWERS, 0))
    probes: Histogram = field(default_factory=lambda: Histogram(PROBE_BUCKETS_S))
    """Seconds that each probe took."""
    field_reports: dict[FieldReportOutcome, int] = field(
        default_factory=lambda: {o: 0 for o in FieldReportOutcome if o is not FieldReportOutcome.UNSPECIFIED}
    )
    conservative: bool = False
    emergency: int = 0
    """The emergency level's number; 0 is none."""

    def stages(self, stages: Iterable[Stage]) -> None:
        """Replace the count of seeds by stage with that of `stages`, one entry a seed."""
        now = dict.fromkeys(self.seeds, 0)
        for stage in stages:
            now[stage] += 1
        self.seeds = now

    def gate(self, gate: Gate, passed: bool) -> None:
        """Count one verdict."""
        verdicts = self.gates_passed if passed else self.gates_failed
        verdicts[gate] += 1


@dataclass(slots=True)
class RunCounters:
    """Everything that one run counts, by who writes it."""

    boundary: BoundaryCounters = field(default_factory=BoundaryCounters)
    training: TrainingCounters = field(default_factory=TrainingCounters)
    growth: GrowthCounters = field(default_factory=GrowthCounters)
    loop_lag: Histogram = field(default_factory=lambda: Histogram(LAG_BUCKETS_S))
    """Seconds that the event loop woke late; written by the event loop."""
    render: Histogram = field(default_factory=lambda: Histogram(RENDER_BUCKETS_S))
    """Seconds of work, pauses not counted, in each rendering for a scrape; written by the event loop."""
    telemetry_read: int = 0
    """Samples of steps that were taken out of the training thread's queue; written by the event loop."""
    telemetry_dropped: int = 0
    """Telemetry records that were thrown away because their queue was full; written by the event loop."""
