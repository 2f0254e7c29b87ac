"""What the trainer and the controller say to each other at a boundary."""

import msgspec

from contracts.growth import GrowthView, ProbePlan
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


class Judged(msgspec.Struct, frozen=True):
    """What became of a command: applied, or refused for a reason, or replaced because it came too late."""

    command_id: str
    applied: bool
    reason: str = ""


class CloseWindows(msgspec.Struct, Request[tuple[FieldReport, ...]], frozen=True):
    """The run ends: report on every command whose window is still open."""

    state: SystemState
    view: GrowthView
