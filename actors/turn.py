"""One turn of the training lane: apply a plan, probe, train an epoch, assemble the state.

It runs outside the event loop. From the end of the epoch until the next plan is applied the loop
keeps quiet: `quiet(True)` and `quiet(False)` bracket the boundary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from contracts.growth import ProbePlan, ProbeReport
from contracts.messages import WallNs
from esper.kasmina.plan import GraftPlan
from esper.tolaria.errors import PlanRefused
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures
from esper.tolaria.snapshot import Snapshot

Tell: TypeAlias = Callable[[int, int], None]
"""(forks done, forks in all)"""


class Training(Protocol):
    """The trainer as its lane uses it."""

    @property
    def finished(self) -> bool: ...
    def apply(self, plan: GraftPlan) -> Applied: ...
    def probe(self, plan: ProbePlan, tell: Tell) -> ProbeReport: ...
    def run_epoch(self) -> EpochResult: ...
    def assemble(self) -> Assembled: ...
    def final(self) -> FinalFigures: ...
    def keep(self, restored: Snapshot | None = None) -> Snapshot:
        """A copy of all that training goes on from; what was just restored need not be copied again."""

    def restore(self, snapshot: Snapshot, *, behind_break: bool) -> EpochResult | None:
        """Go back to it, with the data going on behind the batch that broke if that is asked for.

        Returns:
            The result of the epoch that it was taken after; None if it was taken before the first.
        """

    def stop(self) -> None:
        """From any thread: end the epoch, or the probe, after the present step."""


@dataclass(frozen=True, slots=True)
class TurnTools:
    """What a turn needs beside the trainer: the time, the wall clock, and the loop's quiet flag."""

    now: Callable[[], float]
    """Seconds."""
    wall_ns: Callable[[], WallNs]
    quiet: Callable[[bool], None]
    probing: Tell
    """Is told how far a probe is."""
    keeps: bool = False
    """Whether what training goes on from is copied after each epoch."""


@dataclass(frozen=True, slots=True)
class Applying:
    """A turn has begun: what came of its plan; moments are those of the passed clock, in seconds."""

    applied: Applied | None
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Turned:
    """A turn is over; moments are those of the passed clock, in seconds."""

    result: EpochResult
    assembled: Assembled
    probe: ProbeReport | None
    refused: str
    """Why a probe that was asked for was not run; empty if it was, or none was asked for."""
    finished: bool
    epoch_ended: float
    kept_at: float
    """The copy was made, if one was wanted."""
    assembled_at: float
    trained: bool = True
    """An epoch was trained; else this is where an earlier turn had ended."""
    kept: Snapshot | None = None
    """The run as it was before it is decided on; None if nobody wants it, or the epoch was cut short."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The trainer stands before the first epoch."""

    kept: Snapshot | None
    """The run as it begins; None if nobody wants it, or it was just gone back to."""


def turn(
    training: Training,
    plan: GraftPlan | None,
    probe: ProbePlan | None,
    tools: TurnTools,
    begun: Callable[[Applying], None] = lambda applying: None,
) -> Turned:
    """Do one turn; unless the run is finished, the loop is left quiet at its end.

    `begun` is called in the lane once the plan is applied.
    """
    apply_began = tools.now()
    applied = training.apply(plan) if plan is not None else None
    begun(Applying(applied, apply_began, tools.now()))
    tools.quiet(False)
    measured, refused = _probed(training, probe, tools.probing)
    result = training.run_epoch()
    tools.quiet(True)
    epoch_ended = tools.now()
    kept = training.keep() if tools.keeps and not result.stopped else None
    kept_at = tools.now()
    assembled = training.assemble()
    finished = training.finished or result.stopped
    if finished:
        tools.quiet(False)
    return Turned(
        result,
        assembled,
        measured,
        refused,
        finished,
        epoch_ended,
        kept_at,
        tools.now(),
        kept=kept,
    )


def set_out(training: Training, tools: TurnTools) -> Opened:
    """Copy what the run begins with, so that it can go back there from its first epoch too."""
    return Opened(training.keep() if tools.keeps else None)


def take_up(training: Training, snapshot: Snapshot, behind_break: bool, tools: TurnTools) -> Turned | Opened:
    """Be where the turn ended after which the snapshot was taken, and leave the loop quiet; or, if none had
    ended, where the run begins."""
    result = training.restore(snapshot, behind_break=behind_break)
    # Behind a batch that broke it is another than before, though the network is the same.
    kept = training.keep(snapshot) if tools.keeps else None
    if result is None:
        return Opened(kept)
    tools.quiet(True)
    began = tools.now()
    assembled = training.assemble()
    finished = training.finished
    if finished:
        tools.quiet(False)
    over = tools.now()
    return Turned(
        result,
        assembled,
        None,
        "",
        finished,
        began,
        began,
        over,
        trained=False,
        kept=kept,
    )


def _probed(training: Training, probe: ProbePlan | None, tell: Tell) -> tuple[ProbeReport | None, str]:
    """The probe's report, or why there is none: a plan that makes no sense costs nothing but itself."""
    if probe is None:
        return None, ""
    try:
        return training.probe(probe, tell), ""
    except PlanRefused as error:
        return None, str(error)
