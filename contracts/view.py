"""What the live display shows of a run, as one frozen picture taken by its owner."""

from typing import Final, Literal, TypeAlias

import msgspec

from contracts.growth import SiteView
from contracts.report import EpochFacts

Phase: TypeAlias = Literal[
    "starting", "training", "probing", "comparing", "finishing", "finished", "interrupted", "halted", "silent"
]
"""The last four are what others see of a run: how it ended, or that it gives no sign of life."""
ENDED: Final = ("finished", "interrupted", "halted")
EventKind: TypeAlias = Literal[
    "germinated", "advanced", "fossilized", "culled", "probe", "warning", "alert", "info"
]


class RunFacts(msgspec.Struct, frozen=True):
    """What is known of a run before torch is loaded."""

    workload: str
    policy: str
    seed: int
    out: str
    """Folder under which the run's own folder is made."""
    epochs: int | None = None
    """Budget in epochs; None if the budget is in FLOPs or is the workload's own."""
    budget_flops: int | None = None
    """Budget in training FLOPs; None if it is in epochs or is the workload's own."""
    bus: str = "memory"
    """Where messages travel, without a password."""
    boundary_budget_ms: float = 18.0
    folder: str = ""
    """The run's own folder; empty where nobody has said."""


class ProbeProgress(msgspec.Struct, frozen=True):
    """The probe that is running; `done` and `total` are optimizer steps over all forks."""

    done: int
    total: int
    candidates: int
    """Candidates still in the running."""
    best: str = ""
    """The leading candidate, in words."""
    best_gain: float | None = None


class BoundaryView(msgspec.Struct, frozen=True):
    """The boundary's times so far, in milliseconds."""

    p50_ms: float
    p99_ms: float
    n: int


class Event(msgspec.Struct, frozen=True):
    """Something that happened, in words."""

    epoch: int
    kind: EventKind
    text: str


class KernelProgress(msgspec.Struct, frozen=True):
    """How much of what may be grown next is compiled and fetched."""

    ready: int
    wanted: int
    making: tuple[str, ...] = ()
    """Names of the blueprints that are being compiled."""


class RunView(msgspec.Struct, frozen=True):
    """Everything that is shown of a running run."""

    facts: RunFacts
    phase: Phase = "starting"
    epoch: int = 0
    """Epochs that are finished."""
    elapsed_s: float = 0.0
    """Seconds since this process began to train."""
    progress_before: float = 0.0
    """Share of the budget that was spent when this process began to train (a resumed run)."""
    host_params: int = 0
    params: int = 0
    max_params: int = 0
    spent_flops: int = 0
    epochs: tuple[EpochFacts, ...] = ()
    sites: tuple[SiteView, ...] = ()
    boundary: BoundaryView | None = None
    probe: ProbeProgress | None = None
    kernels: KernelProgress | None = None
    """None until something was looked for."""
    bus_depth: int = 0
    alerts: tuple[str, ...] = ()
    conservative: bool = False
    emergency: str = ""
    """The emergency level, in small letters; empty while all is well."""
    events: tuple[Event, ...] = ()
    """Newest last; the display fills it in from the events that it was told."""

    @property
    def progress(self) -> float | None:
        """Share of the budget that is spent, 0 to 1; None while the budget is not known."""
        if self.facts.budget_flops:
            return min(1.0, self.spent_flops / self.facts.budget_flops)
        if self.facts.epochs:
            return min(1.0, self.epoch / self.facts.epochs)
        return None

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at the speed so far; None if it has ended, or nothing says how fast that is."""
        progress = self.progress
        if progress is None or progress <= self.progress_before or self.phase in ENDED:
            return None
        return self.elapsed_s * (1.0 - progress) / (progress - self.progress_before)
