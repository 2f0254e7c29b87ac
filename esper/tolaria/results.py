"""What the trainer reports: of an epoch, of a plan it applied, of the whole run."""

from dataclasses import dataclass, field

from contracts.conflict import ConflictFacts
from contracts.growth import GrowthView, SeedFigures
from contracts.messages import SystemState
from esper.tolaria.watch import ForeignChange


@dataclass(frozen=True)
class SetAside:
    """A live seed that was taken out of the forward pass in the middle of an epoch, and why."""

    seed_id: str
    step: int
    """Global number of the step that broke."""
    reason: str


@dataclass(frozen=True)
class Suspect:
    """What may be at fault if training stands still: an undecided seed, or a contender of a probe."""

    blueprint_id: str
    seed_id: str = ""
    """Empty for a contender."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch. Losses are means over examples; accuracies are shares, None where not defined.

    `epoch` counts from 1. `stopped` says that the epoch was cut short on request: nothing was validated
    then, and the validation figures are those of the epoch before (NaN if there was none).
    """

    epoch: int
    steps: int
    train_loss: float
    val_loss: float
    val_accuracy: float | None
    learning_rate: float
    grad_norm: float
    spent_flops: int
    wall_s: float
    stopped: bool = False
    foreign_rate_changes: int = 0
    """What of the optimizer someone else had changed, found and overwritten during the epoch."""
    foreign: tuple[ForeignChange, ...] = ()
    """The newest of them."""
    conflict: ConflictFacts | None = None
    """What several live seeds did to each other; None if they were not compared."""
    notices: tuple[str, ...] = ()
    """What people should know of that stops nothing: foreign parameters, a scheduler that has ended."""
    set_aside: tuple[SetAside, ...] = ()
    """Seeds that broke the epoch, which was then trained again without them."""


@dataclass(frozen=True)
class Assembled:
    """The boundary's facts: what is told to the controller, and what the gates rest on."""

    state: SystemState
    growth: GrowthView
    figures: dict[str, SeedFigures]
    foreign: tuple[ForeignChange, ...] = ()
    """What of the optimizer someone else had changed in the epoch, the newest."""
    steps: int = 0
    """Steps that the epoch had."""


@dataclass(frozen=True)
class Applied:
    """What a plan did to the network.

    `changed_host` names the tensors whose values a rollback changed; a graft itself changes none.
    `notes` say what was done beyond the plan's changes: a rollback that succeeded. `refused` says what
    could not be done as the plan asked, and why; empty if all of it was.
    """

    plan_id: str
    params_added: int = 0
    params_removed: int = 0
    changed_host: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinalFigures:
    """The finished run. Accuracies are shares of 0 to 1; None where the task does not define them.

    `train_flops` is all that training and growth spent; `flops` has every account.
    """

    val_loss: float
    val_accuracy: float | None
    test_loss: float
    test_accuracy: float | None
    fresh_accuracy: float | None
    params: int
    train_flops: int
    flops: dict[str, int] = field(default_factory=dict)
