"""Collects a run's facts as they happen, in a form that a checkpoint can keep."""

import math
from copy import copy

import msgspec

from contracts.growth import GateVerdict, ProbeReport, ProbeScore, SeedRecord
from contracts.lifecycle import Stage
from contracts.report import (
    AlertFacts,
    CandidateFacts,
    EpochFacts,
    FailureFacts,
    Figure,
    GraftFacts,
    Outcome,
    PolicyUpdateFacts,
    ProbeFacts,
    RefusalFacts,
    ResumeFacts,
    RollbackFacts,
    StageFacts,
)

_OUTCOMES: tuple[tuple[Stage, Outcome], ...] = (
    (Stage.TERMINATED, "terminated"),
    (Stage.CULLED, "culled"),
    (Stage.FOSSILIZED, "fossilized"),
)
"""What a seed came to: the first of these stages that it has been in."""


class Recorded(msgspec.Struct):
    """Everything that was recorded; goes into a checkpoint as it is.

    What is recorded at every boundary is added to `epochs`, `grafts` and `applied`; each of the others is
    replaced by another when something is recorded in it.
    """

    epochs: list[EpochFacts] = []
    grafts: dict[str, GraftFacts] = {}
    """By seed id, in the order of germination."""
    probes: list[ProbeFacts] = []
    applied: dict[str, int] = {}
    refused: list[RefusalFacts] = []
    late: int = 0
    passed: dict[str, int] = {}
    failed: list[FailureFacts] = []
    alerts: list[AlertFacts] = []
    policy_updates: list[PolicyUpdateFacts] = []
    rollbacks: list[RollbackFacts] = []
    resumes: list[ResumeFacts] = []

    def copied(self) -> "Recorded":
        """The same now; what is recorded later does not show in it."""
        now = copy(self)
        now.epochs, now.grafts, now.applied = self.epochs.copy(), self.grafts.copy(), self.applied.copy()
        return now


class Recorder:
    """Takes down what happens in a run; `recorded` is all of it, and starts a resumed one."""

    def __init__(self, recorded: Recorded | None = None) -> None:
        self.recorded = recorded if recorded is not None else Recorded()

    def epoch(self, facts: EpochFacts) -> None:
        """An epoch is over."""
        self.recorded.epochs.append(measured(facts))

    def seed(self, record: SeedRecord, epoch: int, *, blueprint_name: str = "", reason: str = "") -> None:
        """A seed's record, as often as it changes: each new stage is kept with its epoch."""
        grafts = self.recorded.grafts
        known = grafts.get(record.seed_id)
        if known is None and record.stage is Stage.DORMANT:
            return
        stages = known.stages if known else ()
        if not stages or stages[-1].stage != record.stage.name:
            stages = (*stages, StageFacts(record.stage.name, epoch))
        was = {entry.stage for entry in stages}
        grafts[record.seed_id] = GraftFacts(
            site=record.site,
            blueprint_id=record.blueprint_id or (known.blueprint_id if known else ""),
            seed_id=record.seed_id,
            outcome=next((outcome for stage, outcome in _OUTCOMES if stage.name in was), "unfinished"),
            stages=stages,
            params=record.params or (known.params if known else 0),
            gain=known.gain if known else None,
            reason=reason or (known.reason if known else ""),
            parameters=record.parameters or (known.parameters if known else {}),
            blueprint_name=blueprint_name or (known.blueprint_name if known else ""),
            kernel=record.kernel or (known.kernel if known else ""),
        )

    def gain(self, seed_id: str, gain: Figure) -> None:
        """A counterfactual gain was measured; the newest counts."""
        known = self.recorded.grafts.get(seed_id)
        if known is not None and finite(gain) is not None:
            self.recorded.grafts[seed_id] = msgspec.structs.replace(known, gain=gain)

    def probe(self, report: ProbeReport) -> None:
        """A probe is over."""
        facts = ProbeFacts(
            probe_id=report.probe_id,
            epoch=report.epoch,
            flops=report.flops,
            wall_s=report.wall_s,
            candidates=tuple(_candidate(score) for score in report.scores),
        )
        self.recorded.probes = [*self.recorded.probes, facts]

    def applied(self, operation: str) -> None:
        """A command was carried out."""
        self.recorded.applied[operation] = self.recorded.applied.get(operation, 0) + 1

    def refused(self, epoch: int, operation: str, target: str, reason: str) -> None:
        """A command was refused; the same refusal again is counted with the first."""
        entries = self.recorded.refused = self.recorded.refused.copy()
        for index, old in enumerate(entries):
            if (old.operation, old.target, old.reason) == (operation, target, reason):
                entries[index] = msgspec.structs.replace(old, times=old.times + 1)
                return
        entries.append(RefusalFacts(epoch, operation, target, reason))

    def late(self) -> None:
        """A boundary went on without a decision."""
        self.recorded.late += 1

    def verdict(self, epoch: int, seed_id: str, verdict: GateVerdict) -> None:
        """A gate decided; the same failure again is counted with the first."""
        gate = verdict.gate.name
        if verdict.passed:
            self.recorded.passed = {**self.recorded.passed, gate: self.recorded.passed.get(gate, 0) + 1}
            return
        entries = self.recorded.failed = self.recorded.failed.copy()
        for index, old in enumerate(entries):
            if (old.seed_id, old.gate, old.reason) == (seed_id, gate, verdict.reason):
                entries[index] = msgspec.structs.replace(old, times=old.times + 1)
                return
        entries.append(FailureFacts(epoch, seed_id, gate, verdict.reason))

    def alert(self, facts: AlertFacts) -> None:
        """An alert was raised."""
        self.recorded.alerts = [*self.recorded.alerts, facts]

    def cleared(self, name: str, epoch: int) -> None:
        """The alert is over."""
        self.recorded.alerts = [
            msgspec.structs.replace(old, cleared_epoch=epoch)
            if old.name == name and old.cleared_epoch is None
            else old
            for old in self.recorded.alerts
        ]

    def policy_update(self, facts: PolicyUpdateFacts) -> None:
        """A policy was offered."""
        self.recorded.policy_updates = [*self.recorded.policy_updates, facts]

    def rolled_back(self, to: Recorded, facts: RollbackFacts) -> None:
        """The run goes on from where `to` was all; what was told since of troubles stays told."""
        now = self.recorded
        self.recorded = to.copied()
        self.recorded.alerts = now.alerts
        self.recorded.resumes = now.resumes
        self.recorded.rollbacks = [*now.rollbacks, facts]

    def resumed(self, facts: ResumeFacts) -> None:
        """A new process has taken the run up."""
        self.recorded.resumes = [*self.recorded.resumes, facts]


def finite(value: Figure) -> Figure:
    """`value`, or None if it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def measured(facts: EpochFacts) -> EpochFacts:
    """The same epoch with None for what is no finite number."""
    figures = (facts.train_loss, facts.val_loss, facts.val_accuracy)
    train_loss, val_loss, val_accuracy = known = tuple(map(finite, figures))
    if known == figures:
        return facts
    return msgspec.structs.replace(facts, train_loss=train_loss, val_loss=val_loss, val_accuracy=val_accuracy)


def _candidate(score: ProbeScore) -> CandidateFacts:
    grafts = score.contender.grafts
    return CandidateFacts(
        sites=tuple(graft.site for graft in grafts),
        blueprint_id=grafts[0].blueprint_id,
        params=score.contender.params,
        steps=score.steps,
        loss=finite(score.loss),
        loss_control=finite(score.loss_control),
        gain=finite(score.gain),
        parameters=grafts[0].parameters,
    )
