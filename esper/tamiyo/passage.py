"""Takes a seed that is already growing along its path: the part that every growing policy shares."""

from contracts.growth import GrowthView, SeedView
from contracts.lifecycle import SeedOperation, Stage
from esper.tamiyo.action import Advance

MEASURED = frozenset({SeedOperation.EVALUATE, SeedOperation.FOSSILIZE})
"""Operations whose gates rest on the seed's counterfactual gain."""


def next_step(seed: SeedView, epoch: int) -> Advance | None:
    """The operation that `seed` is due for at `epoch`, or None while its present stage lasts, or its pause.

    TRAINING and SHADOWING are passed within the boundary where the seed's path gives them 0 epochs.
    BLENDING lasts at least one epoch, because the gates behind it judge a seed that was in the
    forward pass; and a gate that rests on the seed's gain is not tried before that was measured in the
    present stage. An operation that a gate refused comes up again each time the stay is served anew.
    """
    record = seed.record
    leaving = None if record.paused else _leaving(seed)
    if leaving is None:
        return None
    stay, operation = leaving
    served = epoch - record.stage_epoch
    if served < stay or (stay and served % stay) or (operation in MEASURED and not _measured(seed)):
        return None
    return Advance(record.seed_id, operation, reason="its time in the stage is served")


def due(view: GrowthView) -> Advance | None:
    """The first active seed's next operation, in the order of the sites."""
    steps = (next_step(seed, view.epoch) for seed in view.active)
    return next((step for step in steps if step is not None), None)


def patience(seed: SeedView) -> int:
    """Epochs after which a seed that its gates keep in a stage is given up: a probation more than planned."""
    path = seed.record.path
    return max(path.training_epochs, path.blending_epochs, path.shadowing_epochs) + path.probation_epochs + 1


def _measured(seed: SeedView) -> bool:
    """The seed's gain was measured since the present stage began."""
    return seed.gain_epoch > seed.record.stage_epoch


def _leaving(seed: SeedView) -> tuple[int, SeedOperation] | None:
    """Epochs that the present stage lasts, and the operation that ends it."""
    path = seed.record.path
    match seed.record.stage:
        case Stage.GERMINATED if path.training_epochs == 0:
            return 1, SeedOperation.START_GRAFTING
        case Stage.GERMINATED:
            return 1, SeedOperation.START_TRAINING
        case Stage.TRAINING:
            return path.training_epochs, SeedOperation.START_GRAFTING
        case Stage.BLENDING if path.shadowing_epochs == 0:
            return max(1, path.blending_epochs), SeedOperation.EVALUATE
        case Stage.BLENDING:
            return max(1, path.blending_epochs), SeedOperation.STABILIZE
        case Stage.SHADOWING:
            return path.shadowing_epochs, SeedOperation.EVALUATE
        case Stage.PROBATIONARY:
            return path.probation_epochs, SeedOperation.FOSSILIZE
        case _:
            return None
