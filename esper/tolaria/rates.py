"""The one owner of learning rates: the host's schedule and each seed's own warm-up.

A rate that is not the one set last was changed by someone else: it is reported and overwritten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch.optim import Optimizer

HOST = "host"
"""Name of the optimizer group that holds the host and what has become part of it."""


@dataclass(frozen=True)
class Schedule:
    """Constant until `decay_from` of the budget, then linear down to `final_rate` of the peak."""

    peak: float
    decay_from: float
    final_rate: float

    def at(self, progress: float) -> float:
        """The rate at `progress`, the share of the budget that is spent (beyond 1 counts as 1)."""
        if progress <= self.decay_from or self.decay_from >= 1.0:
            return self.peak
        fallen = min(1.0, (progress - self.decay_from) / (1.0 - self.decay_from))
        return self.peak * (1.0 - (1.0 - self.final_rate) * fallen)


@dataclass
class SeedRate:
    """One seed's multiple of the schedule, and how far its warm-up is."""

    multiplier: float
    warmup_steps: int
    steps: int = 0

    def factor(self) -> float:
        """The share of the host's rate for the next step."""
        if self.steps >= self.warmup_steps:
            return self.multiplier
        return self.multiplier * (self.steps + 1) / self.warmup_steps


@dataclass(frozen=True)
class RatesState:
    """The warm-ups, and the rate set last of every group."""

    seeds: Mapping[str, SeedRate]
    rates: Mapping[str, float]


class Rates:
    """Sets every group's rate before each step.

    `foreign_changes` counts the rates that someone else had changed, each found at the next step.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        self._groups = optimizer.param_groups
        self._schedule = schedule
        self._seeds: dict[str, SeedRate] = {}
        self._set: dict[str, float] = {}
        self.foreign_changes = 0

    def apply(self, progress: float) -> float:
        """Set the rates for a step taken at `progress`; returns the host's."""
        base = self._schedule.at(progress)
        for group in self._groups:
            name = group["name"]
            rate = base
            seed = self._seeds.get(name)
            if seed is not None:
                rate = base * seed.factor()
                seed.steps += 1
            if group["lr"] != self._set.get(name, group["lr"]):
                self.foreign_changes += 1
            self._set[name] = group["lr"] = rate
        return base

    def base(self, progress: float) -> float:
        """The host's rate at `progress`; sets nothing."""
        return self._schedule.at(progress)

    def of(self, name: str) -> float:
        """The rate set last for a group; 0 before the first step."""
        return self._set.get(name, 0.0)

    def admit(self, seed_id: str, multiplier: float, warmup_steps: int) -> None:
        """A new seed's group: `multiplier` times the schedule, reached linearly in `warmup_steps` steps."""
        self._seeds[seed_id] = SeedRate(multiplier, warmup_steps)

    def dismiss(self, seed_id: str) -> None:
        """The seed's group is gone, or has joined the host."""
        self._seeds.pop(seed_id, None)
        self._set.pop(seed_id, None)

    def state(self) -> RatesState:
        """Where every group is in its schedule."""
        return RatesState(
            seeds={name: replace(rate) for name, rate in self._seeds.items()},
            rates={group["name"]: float(group["lr"]) for group in self._groups},
        )

    def restore(self, state: RatesState) -> None:
        """Take over what `state()` said earlier; a group that it does not name keeps its rate."""
        self._seeds = {name: replace(rate) for name, rate in state.seeds.items()}
        self._set = dict(state.rates)
        for group in self._groups:
            group["lr"] = state.rates.get(group["name"], group["lr"])
