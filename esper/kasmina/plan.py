"""What Kasmina tells the trainer to do at a safe point, and what it answers to a command.

A plan is data: making one changes nothing. Each change carries the seed's record as it is once the
change is made, so that the last record of a seed in a plan is the one that a commit keeps.
"""

from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from torch import nn

from contracts.growth import GateVerdict, Operation, SeedRecord
from esper.breaker import BreakerState


@dataclass(frozen=True)
class Insert:
    """Put the module in place, isolated and not learning (GERMINATED)."""

    record: SeedRecord
    module: nn.Module


@dataclass(frozen=True)
class SetAlpha:
    """The seed is live: the site's output is h + alpha · f(h), 0 < alpha <= 1."""

    record: SeedRecord
    alpha: float


@dataclass(frozen=True)
class Isolate:
    """Take the seed out of the forward pass; it learns on the shadow path, or not at all."""

    record: SeedRecord
    learns: bool


@dataclass(frozen=True)
class Remove:
    """Take the seed out of the module tree; `rollback` asks for the host as it was before the graft."""

    record: SeedRecord
    rollback: bool


@dataclass(frozen=True)
class Fossilize:
    """The seed, live with alpha 1, belongs to the host from now on."""

    record: SeedRecord


@dataclass(frozen=True)
class Pause:
    """The seed learns nothing until it resumes; a live one keeps contributing with the weights it has."""

    record: SeedRecord


@dataclass(frozen=True)
class Resume:
    """The seed goes on where it was paused."""

    record: SeedRecord


@dataclass(frozen=True)
class Note:
    """The record changed and the module did not."""

    record: SeedRecord


@dataclass(frozen=True)
class Setting:
    """One operation's breaker as it is to be; a matter of the engine's, not of the safe point's."""

    operation: Operation
    state: BreakerState


Change: TypeAlias = Insert | SetAlpha | Isolate | Remove | Fossilize | Pause | Resume | Note


class GraftPlan(msgspec.Struct, frozen=True):
    """What to do at one safe point, in this order."""

    plan_id: str
    changes: tuple[Change, ...] = ()
    epoch: int = 0
    """At whose end it was made; what breakers count in."""


class Verdict(msgspec.Struct, frozen=True):
    """The answer to one command.

    `plan` also holds the boundary's housekeeping, whether the command was taken or not: it is to be
    applied and committed in both cases. `refusal` is empty when the command was taken. `repeated`
    says that the command was answered before: the outcome is the stored one, and what it changed
    then is not in this plan again.
    """

    plan: GraftPlan
    applied: bool
    refusal: str = ""
    gates: tuple[GateVerdict, ...] = ()
    repeated: bool = False
