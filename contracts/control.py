"""What the trainer and the controller say to each other at a boundary."""

import msgspec

from contracts.growth import Candidate, GrowthView, ProbePlan
from contracts.messages import AdaptationCommand, FieldReport, SystemState
from contracts.request import Request


class Evaluate(msgspec.Struct, Request[AdaptationCommand], frozen=True):
    """What shall be done at this boundary? Asked on the critical path, with a deadline."""

    state: SystemState
    view: GrowthView


class Survey(msgspec.Struct, Request[ProbePlan | None], frozen=True):
    """Is there anything to measure before the next decision? Asked while the next epoch trains."""

    state: SystemState
    view: GrowthView


class Foresee(msgspec.Struct, Request[tuple[Candidate, ...]], frozen=True):
    """What may be germinated next, the likeliest first? Asked while the next epoch trains."""

    view: GrowthView


class Look(msgspec.Struct, frozen=True):
    """How growth stands at a run's beginning or after an epoch, for whoever prepares what comes next."""

    view: GrowthView


class Ready(msgspec.Struct, Request[bool], frozen=True):
    """Is everything answered that was asked before? True once it is."""


class Decided(msgspec.Struct, frozen=True):
    """A boundary's command and what became of it; it is under observation from now on."""

    command: AdaptationCommand
    state: SystemState
    view: GrowthView
    applied: bool
    reason: str = ""


class CloseWindows(msgspec.Struct, Request[tuple[FieldReport, ...]], frozen=True):
    """The run ends: report on every command whose window is still open."""

    state: SystemState
    view: GrowthView
    resumable: bool = False
    """It was broken off and can be gone on with: what is said of open windows is not the last word."""


class ReportsRead(msgspec.Struct, frozen=True):
    """A reader has these field reports, and what it makes of them is on its disk."""

    report_ids: tuple[str, ...]
