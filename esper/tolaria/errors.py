"""What can go wrong while training; one small hierarchy, each error named for what happened."""

from contracts.emergency import Trigger


class TrainerError(Exception):
    """Anything that Tolaria refuses or stops at."""


class BadData(TrainerError, ValueError):
    """The data can't be trained on: empty, of unequal lengths, or not finite."""


class BadOptimizer(TrainerError, ValueError):
    """The optimizer or the schedule can't be used as asked, or can't go on from what was kept of it."""


class TrainingDiverged(TrainerError):
    """A training loss or gradient is NaN or infinite, or a loss is far above its recent level.

    No optimizer step was taken with it. `step` is the global step, counted from 0, that was not taken, or
    where it shows in what the steps before it left (`taken`); `quantity` is what was wrong; `kind` is
    NOT_FINITE or LOSS_EXPLODED.
    """

    def __init__(
        self, step: int, quantity: str, exceeded: float | None = None, *, taken: bool = False
    ) -> None:
        wrong = "is not finite" if exceeded is None else f"is above {exceeded:.4g}, far over its recent level"
        lost = "the epoch is given up" if taken else "that step was not taken"
        super().__init__(
            f"training diverged at step {step}: the {quantity} {wrong}; {lost}. "
            "A smaller train.learning_rate or a train.clip_norm above 0 may help"
        )
        self.step = step
        self.taken = taken
        self.quantity = quantity
        self.kind = Trigger.NOT_FINITE if exceeded is None else Trigger.LOSS_EXPLODED


class RestoreFailed(TrainerError):
    """The trainer could not go back to a snapshot.

    `consistent` says that it is as it was before; if it is not, it trains no further until it has gone back
    to some snapshot.
    """

    def __init__(self, reason: str, *, consistent: bool) -> None:
        left = "nothing has changed" if consistent else "what it left is not consistent"
        super().__init__(f"the trainer can't go back: {reason}; {left}")
        self.consistent = consistent


class PlanRefused(TrainerError, ValueError):
    """A graft plan does not fit the network as it is; nothing was changed."""
