"""Moves a seed that exists: along the main line through its gates, out by a cull, or on in probation."""

from msgspec.structs import replace

from contracts.config import GrowthConfig
from contracts.growth import GateVerdict, SeedFigures, SeedRecord
from contracts.lifecycle import MAIN_LINE, Stage
from esper.kasmina.draft import Draft, Refused, legal, next_slot
from esper.kasmina.gates import judge
from esper.kasmina.pause import check_awake
from esper.kasmina.plan import Change, Fossilize, Isolate, Note, Remove, SetAlpha
from esper.kasmina.upkeep import BEFORE_CONTACT, ramp


def planned_epochs(record: SeedRecord, stage: Stage) -> int:
    """How long the seed's path stays in `stage`, in epochs."""
    path = record.path
    return {
        Stage.TRAINING: path.training_epochs,
        Stage.BLENDING: path.blending_epochs,
        Stage.SHADOWING: path.shadowing_epochs,
        Stage.PROBATIONARY: path.probation_epochs,
    }.get(stage, 0)


def advance(
    record: SeedRecord, target: Stage, figures: SeedFigures, config: GrowthConfig, epoch: int, fossils: int
) -> Draft:
    """Take the seed to `target`, through the stages between; `fossils` is how many its site holds.

    The very next stage can be had at any time: cutting a stage short is the sender's decision, and its
    gate decides. A later one only if every stage passed, the present one included, has served its epochs.

    Raises:
        Refused: it is not ahead on the main line, it is paused, a stage on the way has not been served, or
            a gate did not pass. Nothing is done by halves: the seed stays where it is.
    """
    check_awake(record)
    steps = _steps(record, target)
    if len(steps) > 1:
        _check_served(record, steps, epoch)
    changes: list[Change] = []
    gates: list[GateVerdict] = []
    now = record
    for stage in steps:
        gate = legal(now, stage).gate
        if gate is not None:
            gates.append(judge(gate, now, figures, config.gates))
            if not gates[-1].passed:
                raise Refused(
                    f"{gate.name} did not pass for {record.seed_id}: {gates[-1].reason}; "
                    f"it stays {record.stage.name}",
                    tuple(gates),
                )
        changes.append(_enter(now, stage, epoch))
        now = changes[-1].record
    if target is Stage.FOSSILIZED and fossils + 1 < config.max_per_site:
        changes.append(Note(next_slot(record)))
    return Draft(tuple(changes), tuple(gates))


def cull(record: SeedRecord, rollback: bool, embargo_epochs: int, epoch: int) -> Draft:
    """Take the seed out; its site rests for `embargo_epochs`.

    `rollback` is granted from BLENDING on: before that the host has never run with the seed.

    Raises:
        Refused: the seed is in no stage that can be culled.
    """
    legal(record, Stage.CULLED)
    granted = rollback and record.stage not in BEFORE_CONTACT
    culled = replace(
        record,
        stage=Stage.CULLED,
        stage_epoch=epoch,
        alpha=0.0,
        rests_until=epoch + embargo_epochs,
        rolled_back=granted,
        paused_since=-1,
    )
    return Draft((Remove(culled, granted),))


def expelled(record: SeedRecord, refused: Refused, embargo_epochs: int, epoch: int) -> Refused:
    """The same refusal, upon which the seed is taken out, with rollback if the host has run with it."""
    culled = cull(record, True, embargo_epochs, epoch)
    return Refused(f"{refused}; it is a drill's seed and is taken out", refused.gates, culled.changes)


def fine_tune(record: SeedRecord, epoch: int) -> Draft:
    """Let the seed's probation begin anew in `epoch`.

    Raises:
        Refused: the seed is not on probation, or is paused.
    """
    check_awake(record)
    if record.stage is not Stage.PROBATIONARY:
        raise Refused(
            f"{record.seed_id} is {record.stage.name}; "
            "FINE_TUNE keeps a seed on probation and takes only a PROBATIONARY one"
        )
    return Draft((Note(replace(record, stage_epoch=epoch)),))


def _steps(record: SeedRecord, target: Stage) -> tuple[Stage, ...]:
    """The stages to enter, in order; at least one."""
    ahead = MAIN_LINE[MAIN_LINE.index(record.stage) + 1 :] if record.stage in MAIN_LINE else ()
    if record.stage is Stage.DORMANT or target not in ahead:
        return (legal(record, target).target,)
    return ahead[: ahead.index(target) + 1]


def _check_served(record: SeedRecord, steps: tuple[Stage, ...], epoch: int) -> None:
    for passed, following in zip((record.stage, *steps), steps, strict=False):
        planned = planned_epochs(record, passed)
        served = epoch - record.stage_epoch if passed is record.stage else 0
        if served < planned:
            raise Refused(
                f"{record.seed_id} is {record.stage.name} and can't pass {passed.name} to {steps[-1].name}: "
                f"{planned} epochs are planned there and {served} served; "
                f"{following.name if passed is record.stage else passed.name} works now"
            )


def _enter(record: SeedRecord, stage: Stage, epoch: int) -> Change:
    """The change that makes `record` a seed in `stage`."""
    moved = replace(record, stage=stage, stage_epoch=epoch, alpha=0.0)
    match stage:
        case Stage.TRAINING:
            return Isolate(moved, learns=True)
        case Stage.SHADOWING:  # it keeps up with the host, which goes on without it: else G3 judges the wait
            return Isolate(moved, learns=True)
        case Stage.BLENDING:
            alpha = ramp(record.path.blending_epochs, 0)
            return SetAlpha(replace(moved, alpha=alpha), alpha)
        case Stage.PROBATIONARY:
            return SetAlpha(replace(moved, alpha=1.0), 1.0)
        case _:
            assert stage is Stage.FOSSILIZED, f"{stage.name} is not entered along the main line"
            return Fossilize(replace(moved, alpha=1.0))
