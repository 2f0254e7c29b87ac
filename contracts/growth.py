"""What the controller, the grafting engine and the trainer tell each other about growth.

These facts stay inside the process; what leaves it is in `contracts.messages`.
"""

import sys
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

import msgspec

from contracts.conflict import ConflictFacts
from contracts.lifecycle import ACTIVE, Gate, Stage


class Layout(StrEnum):
    """What the dimensions of a site's output mean (B batch)."""

    VECTOR = "vector"  # (B, F)
    SEQUENCE = "sequence"  # (B, C, L)
    IMAGE = "image"  # (B, C, H, W)
    TOKENS = "tokens"  # (B, T, D)


class SiteInfo(msgspec.Struct, frozen=True):
    """One place of the host at which seeds can grow."""

    name: str
    layout: Layout
    shape: tuple[int, ...]
    """Shape of the output for one example, without the batch."""
    channels: int
    """Size of the feature dimension: F, C, C or D."""
    depth: int
    """Position among the sites in the order of the forward pass, from 0."""


Epochs: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Path(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a seed stays in each stage, in epochs.

    0 means that the stage is passed within one boundary. With `training_epochs` 0 and
    `blending_epochs` 0 the seed, whose last layer starts at zero, is trained jointly from the graft on.
    """

    training_epochs: Epochs = 0
    """In isolation, on the shadow path."""
    blending_epochs: Epochs = 0
    """While alpha rises to 1; 0 begins at 1."""
    shadowing_epochs: Epochs = 0
    """Taken out again, learning on the shadow path, while the host with it and without it is compared."""
    probation_epochs: Epochs = 8
    """Fully active and watched, before what it gained decides."""


class SeedFigures(msgspec.Struct, frozen=True):
    """What the trainer measured of one seed; None is "not measured", which passes no gate."""

    seed_id: str
    finite: bool | None = None
    """Output and gradients were free of NaN and infinity."""
    shape_kept: bool | None = None
    grad_norm: float | None = None
    """L2 norm of the seed's own gradient, mean over the last epoch's steps."""
    rms_ratio: float | None = None
    """RMS of the seed's contribution over the RMS of the site's output."""
    jump: float | None = None
    """Largest relative change of the host's output when the seed was put in (0 = bit for bit)."""
    loss_with: float | None = None
    loss_without: float | None = None
    accuracy_with: float | None = None
    accuracy_without: float | None = None
    starved_tensors: int | None = None
    """Host tensors that receive no gradient with the seed in the forward pass."""
    isolation_violations: int = 0
    foreign_parameters: int = 0
    """Parameters that the seed brought into the network, or into its own module, after it was registered."""
    pure: bool | None = None
    """On equal inputs it gave equal bits, and left its input as it was; looked at in drills."""
    cleared: bool | None = None
    """After removal: no parameter, buffer or optimizer state of the seed is left."""

    @property
    def gain(self) -> float | None:
        """Counterfactual gain in validation loss: without minus with; None if not measured."""
        if self.loss_with is None or self.loss_without is None:
            return None
        return self.loss_without - self.loss_with


class SeedRecord(msgspec.Struct, frozen=True):
    """One seed's life so far, as the grafting engine keeps it."""

    seed_id: str
    site: str
    stage: Stage
    blueprint_id: str = ""
    params: int = 0
    parameters: dict[str, float] = {}
    """The blueprint's own settings (its width, say)."""
    path: Path = Path()
    alpha: float = 0.0
    born_epoch: int = 0
    stage_epoch: int = 0
    """Epoch in which the present stage began."""
    rests_until: int = 0
    """First epoch in which an embargoed site may be used again."""
    rolled_back: bool = False
    drill: bool = False
    """Germinated in a drill: watched in every pass, and the first gate that refuses it ends it."""
    kernel: str = ""
    """Reference of the artifact that the module came from; empty if it was built on the spot."""
    paused_since: int = -1
    """Epoch at whose boundary it was paused; -1 if it is not paused."""
    paused_epochs: int = 0
    """Epochs of the pauses that are over."""

    @property
    def paused(self) -> bool:
        """It learns nothing, and its stage's clock stands still."""
        return self.paused_since >= 0


class GateVerdict(msgspec.Struct, frozen=True):
    """One gate's decision with the figures it rests on."""

    gate: Gate
    passed: bool
    reason: str
    figures: dict[str, float] = {}
    seed_id: str = ""


class Operation(StrEnum):
    """What the grafting engine plans, and what the safe point does; each has a breaker of its own."""

    GERMINATE = "germinate"
    """Plan a germination and build its module."""
    ADVANCE = "advance"
    """Judge a seed's next stage, and plan it."""
    CULL = "cull"
    TERMINATE = "terminate"
    INSERT = "insert"
    """Put a module in."""
    ALPHA = "alpha"
    """Let a seed's output count."""
    ISOLATE = "isolate"
    FOSSILIZE = "fossilize"
    PAUSE = "pause"
    RESUME = "resume"
    REMOVE = "remove"
    """Take a module out."""
    ROLLBACK = "rollback"
    """Bring the host back to before a graft."""


class OperationFigures(msgspec.Struct, frozen=True):
    """How one operation has done so far; for telemetry and the report."""

    operation: Operation
    count: int = 0
    failures: int = 0
    """Times that it raised or was slow."""
    slow: int = 0
    """Times that it took longer than its limit."""
    refused: int = 0
    """Times that its open breaker refused it."""
    worst_ms: float = 0.0
    breaker: Literal["closed", "open", "half_open"] = "closed"
    retry_epoch: int | None = None
    """Epoch from which one try is let through; None while its breaker is closed, or held open."""

    @property
    def standing(self) -> str:
        """How its breaker is, in words."""
        match self.breaker:
            case "closed":
                return (
                    f"{self.operation} is closed; it was done {self.count} times and failed {self.failures}"
                )
            case "half_open":
                return f"{self.operation} is half open; the next try decides"
            case _ if self.retry_epoch is None:
                return f"{self.operation} is open; it is refused until an operator closes it"
            case _:
                return f"{self.operation} is open; it is tried again from epoch {self.retry_epoch} on"


class Candidate(msgspec.Struct, frozen=True):
    """One thing that could be grown."""

    site: str
    blueprint_id: str
    parameters: dict[str, float] = {}
    params: int = 0


class Contender(msgspec.Struct, frozen=True):
    """What one fork of a probe grows: at one site, or the same blueprint at several at once."""

    grafts: tuple[Candidate, ...]

    @property
    def params(self) -> int:
        return sum(graft.params for graft in self.grafts)


class ProbeRound(msgspec.Struct, frozen=True):
    """Train every remaining fork `steps` steps, then keep the best `keep`."""

    steps: int
    keep: int


class ProbePlan(msgspec.Struct, frozen=True):
    """Measure contenders on throw-away forks of the network, in rounds of successive halving."""

    probe_id: str
    contenders: tuple[Contender, ...]
    rounds: tuple[ProbeRound, ...]
    rate_multiplier: float = 1.0
    validation_examples: int = 0
    """How many validation examples score a fork; 0 is all of them."""
    judged_by: Literal["validation", "training"] = "validation"
    """Validation loss after a round, or the mean training loss over the last quarter of its steps.

    The second is prequential, each batch scored before it is learned from, and costs nothing extra.
    """


class ProbeScore(msgspec.Struct, frozen=True):
    """How one contender's fork did in its last round."""

    contender: Contender
    loss: float
    """Of the kind that the plan's `judged_by` names; infinite if the fork diverged."""
    loss_control: float
    """The same of the ungrown fork after as many steps on the same batches."""
    steps: int
    step_flops: int
    """Training FLOPs of one step of the fork."""

    @property
    def gain(self) -> float:
        return self.loss_control - self.loss


class ProbeReport(msgspec.Struct, frozen=True):
    """A probe's outcome: all contenders, the longest-trained first, by loss within a round."""

    probe_id: str
    epoch: int
    scores: tuple[ProbeScore, ...]
    flops: int
    wall_s: float


class SeedView(msgspec.Struct, frozen=True):
    """One seed as the policy sees it: its record and the newest figures."""

    record: SeedRecord
    figures: SeedFigures
    gain: float | None = None
    """Newest counterfactual gain in validation loss, kept from the epoch in which it was measured."""
    gain_epoch: int = -1


class SiteView(msgspec.Struct, frozen=True):
    """One site: what has grown there, and the seed in progress if there is one."""

    site: SiteInfo
    fossils: tuple[SeedView, ...] = ()
    seed: SeedView | None = None

    @property
    def free(self) -> bool:
        """A seed can be germinated here now."""
        return self.seed is None or self.seed.record.stage is Stage.DORMANT

    @property
    def seeds(self) -> tuple[SeedView, ...]:
        """What has grown here, and the seed in progress."""
        return self.fossils if self.seed is None else (*self.fossils, self.seed)


class GrowthView(msgspec.Struct, frozen=True):
    """Everything about growth that a policy may base a decision on."""

    epoch: int
    progress: float
    """Share of the run's budget (epochs or training FLOPs) that is spent, 0 to 1."""
    host_params: int
    params: int
    max_params: int
    step_flops: int
    """Training FLOPs of one step of the network as it is."""
    budget_flops: int | None
    spent_flops: int
    epoch_steps: int
    batch_size: int
    max_active: int
    """How many seeds may be between germination and fossilization at once."""
    seed_params_max: int = sys.maxsize
    """Parameters that one more of them may have beside those there are, by the limits on seeds at once."""
    sites: tuple[SiteView, ...] = ()
    evidence: ProbeReport | None = None
    """The newest probe's report, present at every boundary until the next probe."""
    flops: dict[str, int] = {}
    """Training FLOPs spent so far, by account."""
    conflict: ConflictFacts | None = None
    """What several live seeds did to each other in the epoch; None if they were not compared."""
    conservative: bool = False
    resting: bool = False
    """Something is wrong: nothing is germinated until it is not."""
    short_of_memory: bool = False
    """The process was found above its memory's budget since the boundary before."""
    left_out: frozenset[str] = frozenset()
    """Blueprints that could not be compiled: nothing of them is grown."""

    @property
    def seeds(self) -> tuple[SeedView, ...]:
        """All of them, site by site, fossils first."""
        return tuple(seed for site in self.sites for seed in site.seeds)

    @property
    def active(self) -> tuple[SeedView, ...]:
        """Seeds between germination and fossilization."""
        return tuple(s.seed for s in self.sites if s.seed is not None and s.seed.record.stage in ACTIVE)
