"""What can go wrong with a run, how bad that is, and what is ordered because of it.

`EmergencyLevel` is the wire's; `UNSPECIFIED` is "nothing is wrong". What each level does:

    NOTICE         it is told and recorded
    ELEVATED       nothing is germinated until it is quiet again; the newest moment goes to disk at once
    CONSERVATIVE   and the caretaker decides instead of the run's policy, under tighter gates
    HALT           training is frozen, the report written; the last good checkpoint is where a resume begins
"""

from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec

from contracts.growth import OperationFigures
from contracts.messages import EmergencyLevel

Level: TypeAlias = EmergencyLevel
NONE = EmergencyLevel.UNSPECIFIED
"""Nothing is wrong."""


class Trigger(StrEnum):
    """What can go wrong; what each comes to is the table in `esper.tolaria.emergency`."""

    NOT_FINITE = "not_finite"
    """A training loss or gradient was NaN or infinite; no optimizer step was taken with it."""
    LOSS_EXPLODED = "loss_exploded"
    """The training loss was far above its recent level; no optimizer step was taken with it."""
    ROLLBACK_FAILED = "rollback_failed"
    """There was no moment that the run could go back to."""
    TRAINING_FAILED = "training_failed"
    """Training raised an error that going back would not help against."""
    ISOLATION = "isolation"
    """A seed left something on the host while it was isolated; the trouble's subject is the seed."""
    QUARANTINE = "quarantine"
    """A seed did so once too often and is taken out; the subject is the seed."""
    BOUNDARY_SLOW = "boundary_slow"
    """Several boundaries running took longer than their budget."""
    BOUNDARIES_SLOW = "boundaries_slow"
    """So many running that it is no passing load."""
    LOOP_STALLED = "loop_stalled"
    """The event loop stood still."""
    STEP_STALLED = "step_stalled"
    """The training thread takes no more steps."""
    MEMORY = "memory"
    """The process has more memory than its budget."""
    MEMORY_SPENT = "memory_spent"
    """It has so much more that the system is about to end it."""
    DISK_FULL = "disk_full"
    """The run folder's disk has next to no space left."""
    CHECKPOINT_FAILED = "checkpoint_failed"
    """A checkpoint could not be written; older ones are unharmed."""
    JOURNAL_FAILED = "journal_failed"
    """A journal could not be written."""
    ACTOR_FAILED = "actor_failed"
    """A critical actor has failed for good; the subject is its name."""
    FOREIGN_RATE = "foreign_rate"
    """Someone else changed a learning rate."""
    OPERATOR = "operator"
    """Someone outside says so; the trouble's `level` is what they ask for."""


class Trouble(msgspec.Struct, frozen=True):
    """One thing that has gone wrong, in the epoch in which it did."""

    trigger: Trigger
    text: str
    """One line for people."""
    epoch: int
    attributes: dict[str, str] = {}
    subject: str = ""
    """Whom it is about, where a trigger can be about several: troubles differ by trigger and subject."""
    level: Level = NONE
    """How bad it is, of an OPERATOR's alone; of all others the trigger says it."""


class Relief(msgspec.Struct, frozen=True):
    """A lasting trouble is over."""

    trigger: Trigger
    subject: str = ""


class Ordered(msgspec.Struct, frozen=True):
    """What follows from a trouble, a boundary or an operator's order."""

    level: Level
    before: Level
    reason: str
    epoch: int
    rollback: bool = False
    """Go back to the newest moment, or an older one, now."""
    moments_back: int = 0
    """How many moments to pass over, the newest first: those that going back to did not help."""
    checkpoint: bool = False
    """The newest moment should be on disk as soon as can be."""
    news: bool = False
    """The trouble was not known in the last boundaries: people want to hear of it."""

    @property
    def changed(self) -> bool:
        """The level is another one now."""
        return self.level is not self.before

    @property
    def rose(self) -> bool:
        return self.level > self.before


class EmergencyState(msgspec.Struct, frozen=True):
    """All that `Emergencies` remembers, as data for a checkpoint."""

    own: Level = NONE
    """What the troubles have come to, without what an operator forces."""
    floor: Level = NONE
    """Forced or held by an operator; NONE if nothing is."""
    held: bool = False
    quiet: int = 0
    """Boundaries in a row whose troubles asked for less than `own`."""
    peak: Level = NONE
    """The worst that was asked for since the last boundary."""
    reason: str = ""
    since: int = 0
    """Epoch of the last change of level."""
    troubles: tuple[Trouble, ...] = ()
    """Those that are open."""
    rollbacks: tuple[int, ...] = ()
    """Epochs that broke and were gone back from."""
    told: dict[str, int] = {}
    """Boundaries for which a trouble is no news, by its key."""
    orders: int = 0
    """How often an operator has set the level."""


class SeedOrder(msgspec.Struct, frozen=True):
    """What an operator wants of one seed."""

    operation: Literal["pause", "resume", "cull", "terminate"]
    seed_id: str


class BreakerOrder(msgspec.Struct, frozen=True):
    """What an operator wants of the breaker of one of the grafting engine's operations."""

    wanted: Literal["status", "open", "close", "try"]
    """`open` refuses the operation until it is closed; `try` lets the next time decide."""
    operation: str = ""
    """For `status`, empty is all of them."""


class Order(msgspec.Struct, frozen=True):
    """What an operator wants: to ask, to set the level, or to have something done."""

    what: Literal["status", "force", "hold", "release", "rollback", "checkpoint", "seed", "breaker"]
    level: Level = NONE
    """For `force`: ELEVATED, CONSERVATIVE or HALT."""
    by: str = "operator"
    seed: SeedOrder | None = None
    """For `seed`."""
    breaker: BreakerOrder | None = None
    """For `breaker`."""


class Bearings(msgspec.Struct, frozen=True):
    """Where a run is, for an operator."""

    run_id: str
    phase: str
    epoch: int
    """The newest that has ended."""
    level: Level
    reason: str
    """Of the last change of level; empty if there was none."""
    since: int
    """Epoch of that change."""
    forced: Level
    """What an operator forces or holds; NONE if nothing is."""
    held: bool
    quiet_left: int
    """Quiet boundaries until the level falls by a step; 0 if it does not."""
    troubles: tuple[Trouble, ...]
    checkpoint: int
    """Epoch of the newest checkpoint on disk; -1 if there is none."""
    breakers: tuple[OperationFigures, ...] = ()
    """Of the grafting engine's operations that were run, refused or set."""


class Answer(msgspec.Struct, frozen=True):
    """What came of an order."""

    done: bool
    text: str
    """What happened, or why not, in one line."""
    bearings: Bearings | None = None
    """Afterwards; None if the order could not be read."""
