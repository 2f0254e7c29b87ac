"""What the host's rate is at which step: schedules that follow from how much of the budget is spent.

How many steps a run takes is not known in advance where its length is in FLOPs, since growth changes
what a step costs. So these know no step numbers: they are curves over progress, the share of the budget
that is spent, and end where the run ends.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from esper.tolaria.plain import Plain

Setting: TypeAlias = float | tuple[float, ...]
"""A hyperparameter of an optimizer's group: a rate, a momentum, a pair of betas."""
Settings: TypeAlias = Mapping[str, Setting]
"""By torch's names; "lr" is always among them."""

WATCHED = ("lr", "momentum", "betas", "weight_decay")
"""The hyperparameters that a schedule may set, and nobody else while training."""


def settings_of(group: Mapping[str, Any]) -> dict[str, Setting]:
    """The watched hyperparameters of an optimizer's group."""
    return {name: as_setting(group[name]) for name in WATCHED if name in group}


def as_setting(value: Any) -> Setting:
    """A plain number, or several, whatever kind of number it was."""
    if isinstance(value, tuple | list):
        return tuple(float(number) for number in value)
    return float(value)


class Schedule(ABC):
    """Says what the host's group is set to before each step. Most have no state and read no validation."""

    reads_validation = False
    """Whether the validation loss decides about the rate."""
    has_steps = False
    """Whether it has to be told of every step."""
    over = ""
    """Why it goes no further, if it does not: the settings stay what they were."""

    @abstractmethod
    def at(self, progress: float) -> Settings:
        """For a step taken at `progress`, the share of the budget that is spent (beyond 1 counts as 1)."""

    def step_taken(self) -> None:  # noqa: B027  most need not know
        """A step was taken with what `at` said."""

    def epoch_over(self, val_loss: float) -> None:  # noqa: B027
        """An epoch was trained and validated."""

    def state(self) -> dict[str, Plain]:
        """Where it is, beyond what follows from the progress."""
        return {}

    def restore(self, state: Mapping[str, Plain]) -> None:  # noqa: B027
        """Take over what `state()` said earlier.

        Raises:
            BadOptimizer: it is that of another schedule.
        """


@dataclass(frozen=True)
class Linear(Schedule):
    """Constant until `decay_from` of the budget, then linear down to `final_rate` of the peak."""

    peak: float
    decay_from: float
    final_rate: float

    def at(self, progress: float) -> Settings:
        if progress <= self.decay_from or self.decay_from >= 1.0:
            return {"lr": self.peak}
        fallen = min(1.0, (progress - self.decay_from) / (1.0 - self.decay_from))
        return {"lr": self.peak * (1.0 - (1.0 - self.final_rate) * fallen)}


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from the peak to `final_rate` of it (Loshchilov and Hutter, arXiv 1608.03983, eq. 5)."""

    peak: float
    final_rate: float

    def at(self, progress: float) -> Settings:
        return {"lr": _half_cosine(self.peak, self.peak * self.final_rate, min(1.0, progress))}


@dataclass(frozen=True)
class Cycled:
    """The momentum that goes down while the rate goes up: torch's "momentum", or the first of "betas"."""

    name: Literal["momentum", "betas"]
    low: float
    high: float
    rest: tuple[float, ...] = ()
    """The betas behind the first."""


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from `start_rate` of the peak until `rise_until`, then down to `final_rate` of it.

    Both along half a cosine, momentum the other way (Smith and Topin, arXiv 1708.07120). The curve is
    that of torch's OneCycleLR with two phases, for any number of steps.
    """

    peak: float
    rise_until: float
    start_rate: float
    final_rate: float
    cycled: Cycled | None = None

    def at(self, progress: float) -> Settings:
        rising = progress < self.rise_until
        if rising:
            first, last, share = self.start_rate, 1.0, progress / self.rise_until
        else:
            fallen = (progress - self.rise_until) / (1.0 - self.rise_until) if self.rise_until < 1.0 else 1.0
            first, last, share = 1.0, self.final_rate, min(1.0, fallen)
        rate = _half_cosine(self.peak * first, self.peak * last, share)
        if self.cycled is None:
            return {"lr": rate}
        ends = (self.cycled.high, self.cycled.low) if rising else (self.cycled.low, self.cycled.high)
        momentum = _half_cosine(*ends, share)
        return {
            "lr": rate,
            self.cycled.name: (momentum, *self.cycled.rest) if self.cycled.name == "betas" else momentum,
        }


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2.0 * (math.cos(math.pi * share) + 1.0)
