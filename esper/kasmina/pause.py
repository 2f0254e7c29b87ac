"""Pauses a seed and lets it go on: while it is paused it learns nothing and its stage's clock stands still.

An isolated seed rests. A live one keeps contributing, its weights and their optimizer state bit for bit as
they are. Gates and alpha pass it over; what a seed is taken out for still holds. A seed may be paused for
`growth.pause_epochs_max` epochs of its life: when they are spent it resumes by itself.
"""

from msgspec.structs import replace

from contracts.growth import SeedRecord
from contracts.lifecycle import ACTIVE
from esper.kasmina.draft import Draft, Refused
from esper.kasmina.plan import Pause, Resume


def pause(record: SeedRecord, epochs_max: int, epoch: int) -> Draft:
    """Let the seed stand still from `epoch` on.

    Raises:
        Refused: it is paused already, its fate is not open, or it has spent its epochs of pause.
    """
    if record.stage not in ACTIVE:
        stages = ", ".join(stage.name for stage in sorted(ACTIVE))
        raise Refused(f"{record.seed_id} is {record.stage.name} and can't be paused; it can while {stages}")
    check_awake(record)
    if record.paused_epochs >= epochs_max:
        raise Refused(
            f"{record.seed_id} was paused for {record.paused_epochs} epochs of the {epochs_max} that "
            "growth.pause_epochs_max allows; it can't be paused again"
        )
    return Draft((Pause(replace(record, paused_since=epoch)),))


def resume(record: SeedRecord, epoch: int) -> Draft:
    """Let the seed go on in `epoch`, its stage's clock put forward by the pause.

    Raises:
        Refused: it is not paused.
    """
    if not record.paused:
        raise Refused(f"{record.seed_id} is not paused: there is nothing to resume")
    lasted = epoch - record.paused_since
    return Draft(
        (
            Resume(
                replace(
                    record,
                    paused_since=-1,
                    paused_epochs=record.paused_epochs + lasted,
                    stage_epoch=record.stage_epoch + lasted,
                )
            ),
        )
    )


def spent(record: SeedRecord, epochs_max: int, epoch: int) -> bool:
    """The seed is paused and has no epoch of pause left."""
    return record.paused and record.paused_epochs + epoch - record.paused_since >= epochs_max


def check_awake(record: SeedRecord) -> None:
    """
    Raises:
        Refused: the seed is paused.
    """
    if record.paused:
        raise Refused(
            f"{record.seed_id} is paused since epoch {record.paused_since}; resume it first "
            "(PAUSE with annotations['resume'] == 'true'), or take it out"
        )
