"""The recent level of the training loss, above which a step is not taken.

A loss of many times its level is a spike (Chowdhery et al. 2022, PaLM, section 5.1): what the step would do
to the weights is worse than to go back and on behind that batch.
"""

import math
from collections import deque
from dataclasses import dataclass

RECENT_EPOCHS = 5
FLOOR = 0.01
"""Of the first epoch's loss: a network that fits its data may well have one batch that it does not."""


@dataclass(frozen=True)
class LevelState:
    """Mean training losses: of the first epoch, and of the newest ones."""

    first: float | None = None
    recent: tuple[float, ...] = ()


class LossLevel:
    """The highest mean loss of the newest epochs, and at least a share of the first epoch's."""

    def __init__(self, ratio_max: float) -> None:
        self._ratio_max = ratio_max
        self._first: float | None = None
        self._recent: deque[float] = deque(maxlen=RECENT_EPOCHS)

    @property
    def limit(self) -> float:
        """The largest loss that a step may have; infinite before the first epoch, and for losses below 0."""
        if self._first is None:
            return math.inf
        level = max(*self._recent, FLOOR * self._first)
        return self._ratio_max * level if level > 0.0 else math.inf

    def saw(self, loss: float) -> None:
        """The mean loss of one more epoch; one without a step has none, which is NaN."""
        if math.isfinite(loss):
            self._first = loss if self._first is None else self._first
            self._recent.append(loss)

    def state(self) -> LevelState:
        """The level now."""
        return LevelState(self._first, tuple(self._recent))

    def restore(self, state: LevelState) -> None:
        """Go back to what `state` gave."""
        self._first = state.first
        self._recent = deque(state.recent, maxlen=RECENT_EPOCHS)
