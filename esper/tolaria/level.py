"""The recent level of the training loss, above which a step is not taken.

A loss of many times its level is a spike (Chowdhery et al. 2022, PaLM, section 5.1): what the step would do
to the weights is worse than to go back and on behind that batch. The level is the highest loss that training
has come through lately, not the mean: a batch that the network does not fit, for a rare target or a wrong
label, is no spike when it comes again.
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
OPENING_IN_A_ROW = 3
"""Losses above the limit that are a spike in the first epoch. One alone is its batch's: none like it may have
come yet. A network that has broken gives nothing else any more."""


@dataclass(frozen=True)
class LevelState:
    """Training losses: the means of the first epoch and of the newest ones, and the newest ones' highest."""

    first: float | None = None
    recent: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()


class LossLevel:
    """The highest loss of the newest epochs, and at least a share of the first epoch's mean."""

    def __init__(self, ratio_max: float) -> None:
        self._ratio_max = ratio_max
        self._first: float | None = None
        self._recent: deque[float] = deque(maxlen=RECENT_EPOCHS)
        self._highest: deque[float] = deque(maxlen=RECENT_EPOCHS)

    @property
    def limit(self) -> float:
        """The largest loss that a step may have; infinite before the first epoch, see `Opening`."""
        if self._first is None:
            return math.inf
        return _limit(self._ratio_max, (*self._recent, *self._highest), self._first)

    def opening(self) -> "Opening | None":
        """What judges the steps of the first epoch; None in a later one."""
        return Opening(self._ratio_max) if self._first is None else None

    def saw(self, loss: float, highest: float) -> None:
        """Mean and highest loss of one more epoch; one without a step has none, which is NaN."""
        if math.isfinite(loss):
            self._first = loss if self._first is None else self._first
            self._recent.append(loss)
            self._highest.append(highest)

    def state(self) -> LevelState:
        """The level now."""
        return LevelState(self._first, tuple(self._recent), tuple(self._highest))

    def restore(self, state: LevelState) -> None:
        """Go back to what `state` gave."""
        self._first = state.first
        self._recent = deque(state.recent, maxlen=RECENT_EPOCHS)
        self._highest = deque(state.highest, maxlen=RECENT_EPOCHS)


class Opening:
    """The first epoch, in which the level is that of the steps before."""

    def __init__(self, ratio_max: float) -> None:
        self._ratio_max = ratio_max
        self._steps = 0
        self._lowest = math.inf
        self._highest = -math.inf
        self._limit = math.inf
        self._above: list[float] = []
        """The newest losses that were above the limit, one after the other."""

    @property
    def open(self) -> bool:
        """Whether the newest loss was above the limit, and the next is to say what that was."""
        return bool(self._above)

    def is_spike(self, loss: float) -> bool:
        """Whether a step of this loss is not to be taken."""
        return loss > self._limit and len(self._above) + 1 >= OPENING_IN_A_ROW

    def saw(self, loss: float) -> float:
        """The limit for the next step, after one of this loss."""
        self._steps += 1
        self._above.append(loss)
        if loss <= self._limit:
            self._lowest = min(self._lowest, *self._above)
            self._highest = max(self._highest, *self._above)
            self._above.clear()
        if self._steps >= OPENING_STEPS:
            self._limit = _limit(self._ratio_max, (self._lowest, self._highest), self._highest)
        return self._limit


def _limit(ratio_max: float, recent: Collection[float], first: float) -> float:
    """`ratio_max` times the highest of them; a loss may also be below 0, and rise by as much then."""
    size = max(*map(abs, recent), FLOOR * abs(first))
    highest = max(recent)
    limit = ratio_max * size if highest >= 0.0 else highest + (ratio_max - 1.0) * size
    return limit if size > 0.0 else math.inf
