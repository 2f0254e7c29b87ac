"""The one owner of learning rates: the host's schedule and each seed's own warm-up.

A rate that is not the one set last was changed by someone else: it is told and overwritten. So are
momentum, betas and weight decay, which a schedule may cycle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch.optim import Optimizer

from esper.tolaria.plain import Plain
from esper.tolaria.schedule import Schedule, Settings, as_setting
from esper.tolaria.watch import ForeignChange, Watch

HOST = "host"
"""Name of the optimizer group that holds the host and what has become part of it."""


@dataclass
class SeedRate:
    """One seed's multiple of the schedule, and how far its warm-up is; `held` while it stands still."""

    multiplier: float
    warmup_steps: int
    steps: int = 0
    held: bool = False

    def factor(self) -> float:
        """The share of the host's rate for the next step."""
        if self.steps >= self.warmup_steps:
            return self.multiplier
        return self.multiplier * (self.steps + 1) / self.warmup_steps

    def step_taken(self) -> None:
        """A step was taken; one that the seed was held in is no part of its warm-up."""
        self.steps += not self.held


@dataclass(frozen=True)
class RatesState:
    """The warm-ups, what was set last in every group, and where the schedule is; all of it plain data."""

    seeds: Mapping[str, SeedRate]
    rates: Mapping[str, float]
    settings: Mapping[str, dict[str, Plain]] = field(default_factory=dict)
    """The other watched hyperparameters by group; betas are a list."""
    schedule: dict[str, Plain] = field(default_factory=dict)
    foreign_changes: int = 0
    untold: tuple[ForeignChange, ...] = ()
    """Those of them that nobody has asked for yet: they were found in an epoch that broke."""


class Rates:
    """Sets every group's rate before each step.

    A host of several groups keeps the ratios of their rates as they are when this is made. A setting other
    than the rate that the schedule changes is changed in every group that had the host's.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        self._optimizer = optimizer
        self._schedule = schedule
        self._seeds: dict[str, SeedRate] = {}
        self._watch = Watch(optimizer)
        peak = self.of(HOST)
        self._multiples = {
            name: self.of(name) / peak for name in self._watch.held if name.startswith(f"{HOST}/")
        }

    @property
    def foreign_changes(self) -> int:
        """What someone else had changed of the optimizer so far, each found at the next step."""
        return self._watch.changes

    @property
    def over(self) -> str:
        """Why the schedule goes no further; empty if it does."""
        return self._schedule.over

    @property
    def reads_validation(self) -> bool:
        """Whether the schedule decides on the validation loss."""
        return self._schedule.reads_validation

    def apply(self, progress: float) -> float:
        """Set the rates for a step taken at `progress`; returns the host's."""
        watch, schedule, seeds, multiples = self._watch, self._schedule, self._seeds, self._multiples
        watch.look()
        settings = schedule.at(progress)
        base: float = settings["lr"]  # type: ignore[assignment]  # a rate is no tuple
        for name, held in watch.held.items():
            group, ours = held.group, held.settings
            for key, value in ours.items():
                if group.get(key) is not value:
                    watch.compare(name, key)
            rate = base
            if name in seeds:
                rate *= seeds[name].factor()
                seeds[name].step_taken()
            elif name in multiples:
                rate *= multiples[name]
            ours["lr"] = group["lr"] = rate
        if len(settings) > 1:
            self._turn(settings)
        if schedule.has_steps:
            schedule.step_taken()
        return base

    def look(self) -> None:
        """See what someone else has changed since the last step, and change it back."""
        self._watch.look()
        for name, held in self._watch.held.items():
            for key, value in held.settings.items():
                if held.group.get(key) is not value:
                    self._watch.compare(name, key)

    def epoch_over(self, val_loss: float) -> None:
        """An epoch was trained and validated: a schedule by epochs goes on, and no foreign group stays."""
        self._watch.look()
        self._schedule.epoch_over(val_loss)

    def base(self, progress: float) -> float:
        """The host's rate at `progress`; sets nothing."""
        base = self._schedule.at(progress)["lr"]
        assert isinstance(base, float)
        return base

    def of(self, name: str) -> float:
        """The rate set last for a group; 0 if none was."""
        held = self._watch.held.get(name)
        rate = 0.0 if held is None else held.settings["lr"]
        assert isinstance(rate, float)
        return rate

    def take_told(self) -> tuple[ForeignChange, ...]:
        """The foreign changes found since this was last asked, the newest of them."""
        return self._watch.take_told()

    def admit(self, seed_id: str, multiplier: float, warmup_steps: int) -> None:
        """A new seed's group: `multiplier` times the schedule, reached linearly in `warmup_steps` steps."""
        self._seeds[seed_id] = SeedRate(multiplier, warmup_steps)

    def hold(self, seed_id: str, held: bool) -> None:
        """Have the warm-up of a seed stand still while it is paused, or go on where it was."""
        if seed_id in self._seeds:
            self._seeds[seed_id].held = held

    def dismiss(self, seed_id: str) -> None:
        """The seed's group is gone, or has joined the host."""
        self._seeds.pop(seed_id, None)
        self._watch.forget(seed_id)

    def state(self) -> RatesState:
        """Where every group is in its schedule."""
        held = self._watch.held
        return RatesState(
            seeds={name: replace(rate) for name, rate in self._seeds.items()},
            rates={name: self.of(name) for name in held},
            settings={name: _others(group.settings) for name, group in held.items()},
            schedule=self._schedule.state(),
            foreign_changes=self.foreign_changes,
            untold=self._watch.untold,
        )

    def restore(self, state: RatesState) -> None:
        """Take over what `state()` said earlier; a group that it does not name keeps its settings.

        Raises:
            BadOptimizer: the schedule is another one now; nothing has changed then.
        """
        self._schedule.restore(state.schedule)
        self._seeds = {name: replace(rate) for name, rate in state.seeds.items()}
        self._watch.changes = state.foreign_changes
        self._watch.recall(state.untold)
        for name in [*self._watch.held]:
            self._watch.forget(name)
        for group in self._optimizer.param_groups:
            name = group.get("name", "")
            if name in state.rates:
                group["lr"] = state.rates[name]
                for key, value in state.settings.get(name, {}).items():
                    group[key] = as_setting(value)
                self._watch.hold(group)

    def _turn(self, settings: Settings) -> None:
        """Take over what the schedule has changed beside the rate."""
        held = self._watch.held
        host = dict(held[HOST].settings)
        for key, value in settings.items():
            if key == "lr" or value == host.get(key, value):
                continue
            for one in held.values():
                if one.settings.get(key) == host[key]:
                    one.settings[key] = one.group[key] = value


def _others(settings: Settings) -> dict[str, Plain]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in settings.items()
        if key != "lr"
    }
