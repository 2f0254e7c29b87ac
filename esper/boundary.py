"""How a boundary went: the facts, what of them is recorded, and what is told to those who listen."""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.growth import SeedRecord
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation, CommandType
from contracts.report import AlertFacts, BoundaryFacts, EpochFacts
from esper.kasmina.plan import Note, Pause, Remove, Resume, Verdict
from esper.report.record import Recorder
from esper.tolaria.results import Assembled

FAREWELL = frozenset({Stage.EMBARGOED, Stage.RESETTING, Stage.DORMANT})
"""What a site goes through after a cull: no news of a seed."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """One boundary as it went; times in seconds."""

    assembled: Assembled
    command: AdaptationCommand
    verdict: Verdict | None
    """None where the grafting engine gave no answer in time: nothing was changed."""
    fallback: str
    """Why "do nothing" stood in for a decision; empty where one came in time."""
    assemble_s: float
    """Assembling the state alone: the copy that came before it is apart."""
    decide_s: float = 0.0
    apply_s: float = 0.0
    notes: tuple[str, ...] = ()
    """What the trainer could not do as the plan asked, and why."""
    keep_s: float = 0.0
    """Copying what the run goes on from: it rests on the network's size alone."""

    @property
    def epoch(self) -> int:
        return self.assembled.growth.epoch

    @property
    def worked_s(self) -> float:
        """What it took beyond the copy."""
        return self.assemble_s + self.decide_s + self.apply_s

    @property
    def total_s(self) -> float:
        return self.keep_s + self.worked_s


@dataclass(frozen=True, slots=True)
class StageChange:
    """A seed entered a stage."""

    record: SeedRecord
    epoch: int
    reason: str = ""


def epoch_facts(assembled: Assembled, boundary: Boundary | None = None) -> EpochFacts:
    """One epoch for the report; the last epoch has no boundary behind it."""
    state, growth, times = assembled.state, assembled.growth, None
    if boundary is not None:
        times = BoundaryFacts(
            assemble=boundary.assemble_s * 1e3,
            decide=boundary.decide_s * 1e3,
            apply=boundary.apply_s * 1e3,
            total=boundary.total_s * 1e3,
            keep=boundary.keep_s * 1e3,
        )
    return EpochFacts(
        epoch=growth.epoch,
        train_loss=state.training_loss,
        val_loss=state.validation_loss,
        val_accuracy=state.validation_accuracy,
        learning_rate=state.training_metrics["learning_rate"],
        boundary_ms=times,
        params=growth.params,
        train_flops=growth.spent_flops,
        conflict=growth.conflict,
        steps=assembled.steps,
    )


def take_down(
    recorder: Recorder, boundary: Boundary, names: Mapping[str, str], budget_s: float
) -> tuple[StageChange, ...]:
    """Record the epoch and the boundary behind it; returns the stages that seeds entered.

    `names` are the blueprints' by id.
    """
    assembled, epoch = boundary.assembled, boundary.epoch
    recorder.epoch(epoch_facts(assembled, boundary))
    for seed in assembled.growth.seeds:
        recorder.gain(seed.record.seed_id, seed.gain)
    _trouble(recorder, boundary, budget_s)
    if boundary.verdict is None:
        return ()
    _judged(recorder, boundary, boundary.verdict)
    reason = boundary.command.annotations.get("reason", "")
    for change in boundary.verdict.plan.changes:
        name = names.get(change.record.blueprint_id, "")
        why = reason if isinstance(change, Remove) else ""
        recorder.seed(change.record, epoch, blueprint_name=name, reason=why)
    return stage_changes(boundary.verdict, epoch, reason)


def stage_changes(verdict: Verdict, epoch: int, reason: str) -> tuple[StageChange, ...]:
    """The stages that seeds entered by a plan, in order."""
    return tuple(
        StageChange(change.record, epoch, reason)
        for change in verdict.plan.changes
        if change.record.stage not in FAREWELL and change.record.stage_epoch == epoch and _entered(change)
    )


def operation_of(command: AdaptationCommand) -> str:
    """A command's operation in one word, for counting: what it asks of a seed, or the kind of command.

    Termination and going on have no type of their own on the wire: their annotations tell them apart.
    """
    notes = command.annotations
    if isinstance(command.payload, CommandSeedOperation):
        terminates = command.payload.operation is SeedOperation.CULL and notes.get("terminate") == "true"
        return "TERMINATE" if terminates else command.payload.operation.name
    if command.command_type is not CommandType.PAUSE:
        return command.command_type.name
    if not command.target_seed_id:
        return "WAIT" if notes.get("action") == "wait" else CommandType.PAUSE.name
    return "RESUME" if notes.get("resume") == "true" else CommandType.PAUSE.name


def target_of(command: AdaptationCommand) -> str:
    """What a command is about: a seed, the site of one to come, or the operation of a breaker."""
    notes = command.annotations
    return command.target_seed_id or notes.get("site", "") or notes.get("operation", "")


def _entered(change: object) -> bool:
    """Notes keep the books, and a pause is no stage; every other change is one that the network can feel."""
    return not isinstance(change, Note | Pause | Resume)


def _trouble(recorder: Recorder, boundary: Boundary, budget_s: float) -> None:
    if boundary.fallback:
        recorder.late()
        recorder.alert(AlertFacts("decision_missing", boundary.epoch, boundary.fallback))
    if boundary.total_s > budget_s:
        text = (
            f"the boundary took {boundary.total_s * 1e3:.1f} ms, {boundary.keep_s * 1e3:.1f} of them to copy "
            f"the run; the budget is {budget_s * 1e3:g} ms"
        )
        recorder.alert(AlertFacts("boundary_over_budget", boundary.epoch, text, "info"))
    for note in boundary.notes:
        recorder.alert(AlertFacts("plan_not_followed", boundary.epoch, note))


def _judged(recorder: Recorder, boundary: Boundary, verdict: Verdict) -> None:
    command, operation = boundary.command, operation_of(boundary.command)
    if verdict.applied:
        recorder.applied(operation)
    else:
        recorder.refused(boundary.epoch, operation, target_of(command), verdict.refusal)
    for gate in verdict.gates:
        recorder.verdict(boundary.epoch, gate.seed_id, gate)
