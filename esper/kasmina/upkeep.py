"""What happens at a boundary without a command.

Alpha rises, a seed that can't be kept is taken out, a culled seed's site comes free, and a seed that has been
paused for as long as it may be resumes. One step a
boundary for each seed, whatever is asked at it: asking twice in one epoch plans the same.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from contracts.config import GrowthConfig
from contracts.growth import SeedFigures, SeedRecord
from contracts.lifecycle import ACTIVE, Gate, Stage, transition
from esper.kasmina.draft import Draft, Records, next_slot
from esper.kasmina.gates import breach, judge
from esper.kasmina.pause import resume, spent
from esper.kasmina.plan import Change, Note, Remove, SetAlpha

STILL = frozenset({Stage.UNKNOWN, Stage.DORMANT, Stage.FOSSILIZED, Stage.TERMINATED})
"""Stages that no housekeeping ends."""
BEFORE_CONTACT = frozenset({Stage.GERMINATED, Stage.TRAINING})
"""Stages before the host has ever run with the seed: there is nothing to roll back."""


def ramp(blending_epochs: int, age_epochs: int) -> float:
    """Alpha in the epoch that starts `age_epochs` after blending began: equal steps, never 0.

    With n epochs planned it is 1/(n+1), 2/(n+1), … and exactly 1 from age n on; so 1 at once for n = 0.
    """
    return 1.0 if age_epochs >= blending_epochs else (age_epochs + 1) / (blending_epochs + 1)


def upkeep(records: Records, figures: Mapping[str, SeedFigures], config: GrowthConfig, epoch: int) -> Draft:
    """The housekeeping that is due in `epoch`.

    The gates are the G5 verdicts, passed or not, and one that did not pass for each seed in quarantine.
    """
    draft = Draft()
    for record in records.values():
        if record.stage in STILL and not record.paused:
            continue
        draft += _step(record, figures.get(record.seed_id) or SeedFigures(record.seed_id), config, epoch)
    return draft


def _step(record: SeedRecord, figures: SeedFigures, config: GrowthConfig, epoch: int) -> Draft:
    verdict = breach(record, figures, config.gates) if record.stage in ACTIVE else None
    if verdict is not None:
        return Draft((_quarantine(record, config.embargo_epochs, epoch),), (verdict,))
    if record.paused:
        return resume(record, epoch) if spent(record, config.pause_epochs_max, epoch) else Draft()
    if record.stage is Stage.BLENDING:
        alpha = ramp(record.path.blending_epochs, epoch - record.stage_epoch)
        rises = alpha > record.alpha
        return Draft((SetAlpha(replace(record, alpha=alpha), alpha),)) if rises else Draft()
    if epoch <= record.stage_epoch:
        return Draft()
    match record.stage:
        case Stage.CULLED:
            return Draft((_moved(record, Stage.EMBARGOED, epoch),))
        case Stage.EMBARGOED if epoch >= record.rests_until:
            return Draft((_moved(record, Stage.RESETTING, epoch),))
        case Stage.RESETTING:
            verdict = judge(Gate.G5_RESET, record, figures, config.gates)
            freed: tuple[Change, ...] = (_moved(record, Stage.DORMANT, epoch), Note(next_slot(record)))
            return Draft(freed if verdict.passed else (), (verdict,))
        case _:
            return Draft()


def _quarantine(record: SeedRecord, embargo_epochs: int, epoch: int) -> Remove:
    """Take a seed out that can't be kept; if the host has run with it, the host goes back to before it."""
    step = transition(record.stage, Stage.CULLED)
    rollback = record.stage not in BEFORE_CONTACT
    gone = replace(
        record,
        stage=step.target,
        stage_epoch=epoch,
        alpha=0.0,
        rests_until=epoch + embargo_epochs,
        rolled_back=rollback,
        paused_since=-1,
    )
    return Remove(gone, rollback)


def _moved(record: SeedRecord, target: Stage, epoch: int) -> Note:
    step = transition(record.stage, target)
    return Note(replace(record, stage=step.target, stage_epoch=epoch))
