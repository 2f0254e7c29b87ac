"""What a run leaves behind: `report.json`, schema 1.

Every figure is as it was measured; one that was not measured, or is no finite number, is null.
Accuracies are fractions, FLOPs are training FLOPs with growth's own counted in.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from contracts.config import Config
from contracts.conflict import ConflictFacts
from contracts.growth import OperationFigures

REPORT_SCHEMA: Final = 1
Figure: TypeAlias = float | None
Outcome: TypeAlias = Literal["fossilized", "culled", "terminated", "unfinished"]
BusFigures: TypeAlias = dict[str, int | float | str | dict[str, int | float | str | None] | None]


class BoundaryFacts(msgspec.Struct, frozen=True):
    """How long the training loop stood still at one boundary, in milliseconds."""

    assemble: float
    decide: float
    apply: float
    total: float
    """All of it, the copy too."""
    keep: float = 0.0
    """Copying what the run goes on from."""


class EpochFacts(msgspec.Struct, frozen=True):
    """One epoch."""

    epoch: int
    train_loss: Figure
    val_loss: Figure
    val_accuracy: Figure
    learning_rate: float
    boundary_ms: BoundaryFacts | None = None
    """None where there is no boundary: the ungrown host of a comparison."""
    params: int = 0
    """Parameters that trained in this epoch."""
    train_flops: int = 0
    """All training FLOPs spent by the end of the epoch."""
    conflict: ConflictFacts | None = None
    """What several live seeds did to each other; None if they were not compared."""
    steps: int = 0
    """Steps that `train_loss` is the mean of; fewer in an epoch that the end of the run cut short. 0 if that
    is not known."""


class StageFacts(msgspec.Struct, frozen=True):
    """The epoch at whose boundary a seed entered a stage; `stage` is a name in `Stage`."""

    stage: str
    epoch: int


class GraftFacts(msgspec.Struct, frozen=True):
    """One seed's whole life."""

    site: str
    blueprint_id: str
    seed_id: str
    outcome: Outcome
    stages: tuple[StageFacts, ...]
    params: int
    gain: Figure
    """Newest counterfactual gain in validation loss: without the seed minus with it."""
    reason: str = ""
    """Why it was culled or terminated."""
    parameters: dict[str, float] = {}
    """The blueprint's own settings (its width, say)."""
    blueprint_name: str = ""
    kernel: str = ""
    """Reference of the verified kernel that it was grafted from; empty if it was built on the spot."""


class HostFacts(msgspec.Struct, frozen=True):
    """The network before anything grew."""

    params: int


class FinalFacts(msgspec.Struct, frozen=True):
    """The network at the end; test and fresh data were looked at once, for these."""

    val_accuracy: Figure
    test_accuracy: Figure
    fresh_accuracy: Figure
    test_loss: Figure
    params: int
    train_flops: int


class Brought(msgspec.Struct, frozen=True):
    """What growing brought: the grown network's figure minus the ungrown host's."""

    val_accuracy: Figure
    test_accuracy: Figure
    fresh_accuracy: Figure
    test_loss: Figure
    params: int
    train_flops: int


class Comparison(msgspec.Struct, frozen=True):
    """The same host, seed and order of data, trained ungrown at equal training FLOPs."""

    final: FinalFacts
    epochs: tuple[EpochFacts, ...]
    brought: Brought


class CandidateFacts(msgspec.Struct, frozen=True):
    """How one contender of a probe did: a blueprint at one site, or at several at once."""

    sites: tuple[str, ...]
    blueprint_id: str
    params: int
    steps: int
    loss: Figure
    """None if it diverged."""
    loss_control: Figure
    gain: Figure
    parameters: dict[str, float] = {}


class ProbeFacts(msgspec.Struct, frozen=True):
    """One probe: its candidates, the longest-trained first, by loss within a round."""

    probe_id: str
    epoch: int
    flops: int
    wall_s: float
    candidates: tuple[CandidateFacts, ...]


class RefusalFacts(msgspec.Struct, frozen=True):
    """A command that was refused, and why; the same refusal repeated is counted."""

    epoch: int
    operation: str
    target: str
    """The seed or site that the command named."""
    reason: str
    times: int = 1


class CommandFacts(msgspec.Struct, frozen=True):
    """What the controller asked for and what came of it."""

    applied: dict[str, int] = {}
    """Count by operation."""
    refused: tuple[RefusalFacts, ...] = ()
    late: int = 0
    """Boundaries that went on with "do nothing" because no decision came in time."""


class FailureFacts(msgspec.Struct, frozen=True):
    """A gate that did not let a seed pass; the same verdict repeated is counted."""

    epoch: int
    seed_id: str
    gate: str
    reason: str
    times: int = 1


class VerdictFacts(msgspec.Struct, frozen=True):
    """What the gates said."""

    passed: dict[str, int] = {}
    """Count by gate."""
    failed: tuple[FailureFacts, ...] = ()


class PartQuantiles(msgspec.Struct, frozen=True):
    """Milliseconds of one part of the boundary, over all epochs."""

    p50_ms: float
    p99_ms: float
    max_ms: float


class BoundaryQuantiles(msgspec.Struct, frozen=True):
    """The boundary's times against their budget; None throughout if there was no boundary."""

    budget_ms: float
    n: int = 0
    share_above_budget: Figure = None
    assemble: PartQuantiles | None = None
    decide: PartQuantiles | None = None
    apply: PartQuantiles | None = None
    total: PartQuantiles | None = None
    keep: PartQuantiles | None = None


class AlertFacts(msgspec.Struct, frozen=True):
    """An alert that was raised."""

    name: str
    epoch: int
    text: str
    severity: Literal["info", "warning", "critical"] = "warning"
    cleared_epoch: int | None = None


class KernelFacts(msgspec.Struct, frozen=True):
    """What of the growth was compiled and fetched ahead."""

    used: int = 0
    """Grafts from a kernel that was ready."""
    built: int = 0
    """Grafts that were built on the spot."""
    fetched: int = 0
    """Kernels that were fetched, used or not."""
    left_out: dict[str, str] = {}
    """Blueprints that were not grown, since they could not be compiled or held up training, and why."""
    damaged: int = 0
    """Stored kernels that were not what had been published, and were made again."""
    built_here: dict[str, str] = {}
    """Blueprints that no other process can import, so that they were never compiled, and why."""
    miscompiled: dict[str, str] = {}
    """Blueprints whose native code computes something else, so that it is not kept, and how it shows."""


class RollbackFacts(msgspec.Struct, frozen=True):
    """One time that the run went back to an earlier boundary."""

    epoch: int
    """Epoch in which it was decided."""
    to_epoch: int
    kind: Literal["fast", "full"]
    """From memory, or from disk."""
    reason: str
    took_ms: float


class ResumeFacts(msgspec.Struct, frozen=True):
    """One time that the run was taken up again in a new process."""

    epoch: int
    """Boundary at which it went on."""
    differences: tuple[str, ...] = ()
    """What was not as before, and what that means."""
    set_aside: tuple[str, ...] = ()
    """What the run does without since, as training had stood still with it."""


class PolicyUpdateFacts(msgspec.Struct, frozen=True):
    """A policy that was offered."""

    epoch: int
    version: str
    accepted: bool
    reason: str = ""


class Ending(msgspec.Struct, frozen=True):
    """How the run ended."""

    kind: Literal["finished", "interrupted", "halted"] = "finished"
    reason: str = ""
    complete: bool = False
    """Training came to its end; if it has not "finished", what was cut short is the comparison behind it."""


class Report(msgspec.Struct, frozen=True):
    """The whole of `report.json`."""

    workload: str
    policy: str
    seed: int
    versions: dict[str, str]
    host: HostFacts
    epochs: tuple[EpochFacts, ...]
    grafts: tuple[GraftFacts, ...]
    final: FinalFacts
    bus: BusFigures
    alerts: tuple[AlertFacts, ...]
    policy_updates: tuple[PolicyUpdateFacts, ...]
    wall_s: float
    ended: Ending
    boundary: BoundaryQuantiles
    flops: dict[str, int]
    """Training FLOPs by account; they add up to `final.train_flops`, without `validation` where no decision
    goes by it."""
    probes: tuple[ProbeFacts, ...]
    commands: CommandFacts
    verdicts: VerdictFacts
    config: Config
    kernels: KernelFacts = KernelFacts()
    compare: Comparison | None = None
    operations: tuple[OperationFigures, ...] = ()
    """How the operations of the grafting engine and of the safe point have done, in this process."""
    rollbacks: tuple[RollbackFacts, ...] = ()
    resumes: tuple[ResumeFacts, ...] = ()
    run_id: str = ""
    schema: Literal[1] = REPORT_SCHEMA
