"""The recent level of the training loss, above which a step is not taken.

A loss of many times its level is a spike (Chowdhery et al. 2022, PaLM, section 5.1): what the step would do
to the weights is worse than to go back and on behind that batch.
"""

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

RECENT_EPOCHS = 5
FLOOR = 0.01
"""Of the first epoch's loss: a network that fits its data may well have one batch that it does not."""
OPENING_STEPS = 10
"""Of the first epoch, before which no loss is known to be large."""


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
        """The largest loss that a step may have; infinite before the first epoch, see `Opening`."""
        return math.inf if self._first is None else _limit(self._ratio_max, self._recent, self._first)

    def opening(self) -> "Opening | None":
        """What judges the steps of the first epoch; None in a later one."""
        return Opening(self._ratio_max) if self._first is None else None

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


class Opening:
    """The first epoch, in which the level is that of the steps before."""

    def __init__(self, ratio_max: float) -> None:
        self._ratio_max = ratio_max
        self._steps = 0
        self._lowest = math.inf
        self._highest = -math.inf

    def saw(self, loss: float) -> float:
        """The limit for the next step, after one of this loss."""
        self._steps += 1
        self._lowest, self._highest = min(self._lowest, loss), max(self._highest, loss)
        if self._steps < OPENING_STEPS:
            return math.inf
        return _limit(self._ratio_max, (self._lowest, self._highest), self._highest)


def _limit(ratio_max: float, recent: Collection[float], first: float) -> float:
    """`ratio_max` times the highest of them; a loss may also be below 0, and rise by as much then."""
    size = max(*map(abs, recent), FLOOR * abs(first))
    highest = max(recent)
    limit = ratio_max * size if highest >= 0.0 else highest + (ratio_max - 1.0) * size
    return limit if size > 0.0 else math.inf
