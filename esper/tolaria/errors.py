"""What can go wrong while training; one small hierarchy, each error named for what happened."""


class TrainerError(Exception):
    """Anything that Tolaria refuses or stops at."""


class BadData(TrainerError, ValueError):
    """The data can't be trained on: empty, of unequal lengths, or not finite."""


class TrainingDiverged(TrainerError):
    """A training loss or gradient is NaN or infinite; no optimizer step was taken with it.

    `step` is the global step, counted from 0, that was not taken; `quantity` is what was not finite.
    """

    def __init__(self, step: int, quantity: str) -> None:
        super().__init__(
            f"training diverged at step {step}: the {quantity} is not finite; that step was not taken. "
            "A smaller train.learning_rate or a train.clip_norm above 0 may help"
        )
        self.step = step
        self.quantity = quantity


class PlanRefused(TrainerError, ValueError):
    """A graft plan does not fit the network as it is; nothing was changed."""
