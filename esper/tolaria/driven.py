"""A scheduler of torch's, or of the user's own: driven on a stand-in, so that growing can't break it.

A scheduler counts its optimizer's groups when it is made; a group that is added later breaks LambdaLR,
OneCycleLR and ReduceLROnPlateau. So it never sees the real optimizer: it is given one of its own, with
one group that has the host's hyperparameters, and what it sets there is taken over to the real groups.
"""

import copy
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from esper.tolaria.errors import BadOptimizer
from esper.tolaria.plain import Plain, kept, original
from esper.tolaria.schedule import Schedule, Settings, as_setting, settings_of
from esper.tolaria.task import Every, SchedulerFactory
from esper.tolaria.trial import WRONG

log = logging.getLogger(__name__)


class StandIn(Optimizer):
    """An optimizer with one group like that of `optimizer`'s host, and nothing to train."""

    def __init__(self, optimizer: Optimizer) -> None:
        group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
        nothing = torch.zeros(1, requires_grad=True)
        super().__init__([{**copy.deepcopy(group), "params": [nothing]}], copy.deepcopy(optimizer.defaults))

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Nothing; a scheduler wants to have seen it called before its own first step."""

    @property
    def group(self) -> dict[str, Any]:
        """Its group."""
        return self.param_groups[0]


class Driven(Schedule):
    """Drives the scheduler that `make` makes: after every step, or after every epoch.

    ReduceLROnPlateau is told the validation loss of each epoch. One that fails on the way (OneCycleLR does,
    once it is past its `total_steps`), or sets a rate below 0 or none, goes no further: the settings stay,
    and `over` says why. `lost` names what of its state a snapshot can't hold, and a restore therefore leaves
    as it is: what is neither a number nor text nor made of them, functions first of all.

    Raises:
        BadOptimizer: what it makes is no scheduler, or that of another optimizer; or `every` is not stated.
    """

    has_steps = True

    def __init__(self, make: SchedulerFactory, every: Every | None, optimizer: Optimizer) -> None:
        self._stand_in = StandIn(optimizer)
        self._scheduler = _made(make, self._stand_in)
        self._name = type(self._scheduler).__name__
        self.reads_validation = isinstance(self._scheduler, ReduceLROnPlateau)
        self._each_step = _each_step(self._name, every, self.reads_validation)
        self._settings: Settings = settings_of(self._stand_in.group)
        if not _sound(self._settings):
            raise BadOptimizer(f"the scheduler {self._name} begins with {_told(self._settings)}")
        self._ended = self.over = ""
        self._stand_in.step()
        self.lost = self._try_state()

    def at(self, progress: float) -> Settings:
        return self._settings

    def step_taken(self) -> None:
        if self._ended:
            self._tell_end()
        elif self._each_step:
            self._go_on(self._scheduler.step)

    def epoch_over(self, val_loss: float) -> None:
        scheduler = self._scheduler
        if self._ended or self._each_step:
            return
        if isinstance(scheduler, ReduceLROnPlateau):
            self._go_on(lambda: scheduler.step(val_loss))
        else:
            self._go_on(scheduler.step)

    def _go_on(self, step: Callable[[], None]) -> None:
        try:
            step()
            settings = settings_of(self._stand_in.group)
        except WRONG as error:
            self._end(str(error) or type(error).__name__)
            return
        if _sound(settings):
            self._settings = settings
        else:
            self._end(f"it set {_told(settings)}")

    def _end(self, why: str) -> None:
        self._ended = f"the scheduler {self._name} goes no further ({why}); the rate stays as it is"

    def _tell_end(self) -> None:
        """Once a step is taken behind the end: a run of as many steps as the scheduler has ends with it."""
        if not self.over:
            self.over = self._ended
            log.warning("%s", self.over)

    def state(self) -> dict[str, Plain]:
        group = {key: value for key, value in self._stand_in.group.items() if key != "params"}
        return {
            "name": self._name,
            "ended": self._ended,
            "settings": kept(self._settings)[0],
            "group": kept(group)[0],
            "scheduler": kept(self._scheduler.state_dict())[0],
        }

    def restore(self, state: Mapping[str, Plain]) -> None:
        match dict(state):
            case {"name": name} if name != self._name:
                raise BadOptimizer(f"what was kept is the state of the scheduler {name}, not of {self._name}")
            case {
                "ended": str(ended),
                "settings": dict(settings),
                "group": dict(group),
                "scheduler": dict(scheduler),
            }:
                self._take_over(ended, settings, group, scheduler)
            case _:
                raise BadOptimizer(f"what was kept of the scheduler {self._name} is not whole")

    def _take_over(
        self, ended: str, settings: dict[str, Plain], group: dict[str, Plain], scheduler: dict[str, Plain]
    ) -> None:
        before = kept(self._scheduler.state_dict())[0]
        try:
            as_set = {name: as_setting(value) for name, value in _originals(settings).items()}
            of_group = _originals(group)
            self._scheduler.load_state_dict(_originals(scheduler))
        except WRONG as error:
            self._scheduler.load_state_dict(_originals(before))
            raise BadOptimizer(
                f"the scheduler {self._name} can't go on from what was kept: {error}"
            ) from error
        self._stand_in.group.update(of_group)
        self._settings, self._ended, self.over = as_set, ended, ""

    def _try_state(self) -> tuple[str, ...]:
        """What of its state is lost; a scheduler that can't be kept and restored is refused at once."""
        try:
            lost = kept(self._scheduler.state_dict())[1]
            self.restore(self.state())
        except WRONG as error:
            raise BadOptimizer(f"the state of the scheduler {self._name} can't be kept: {error}") from error
        if lost:
            log.warning("a checkpoint can't hold %s of the scheduler %s", ", ".join(lost), self._name)
        return lost


def _made(make: SchedulerFactory, stand_in: StandIn) -> LRScheduler:
    try:
        scheduler: object = make(stand_in)
    except WRONG as error:
        raise BadOptimizer(f"the scheduler can't be made: {error or type(error).__name__}") from error
    if not isinstance(scheduler, LRScheduler):
        raise BadOptimizer(
            f"the scheduler's factory returned a {type(scheduler).__name__}; "
            "it has to be an LRScheduler of torch.optim.lr_scheduler"
        )
    if scheduler.optimizer is not stand_in:
        raise BadOptimizer(
            f"the scheduler {type(scheduler).__name__} is made for another optimizer; "
            "make it for the one that its factory is given"
        )
    return scheduler


def _each_step(name: str, every: Every | None, reads_validation: bool) -> bool:
    if reads_validation:
        if every == "step":
            raise BadOptimizer(f"{name} reads each epoch's validation loss; it can't go on every step")
        return False
    if every not in ("step", "epoch"):
        raise BadOptimizer(
            f'say whether {name} goes on every step or epoch: scheduler_every="step" or "epoch"'
        )
    return every == "step"


def _sound(settings: Settings) -> bool:
    """Every number is finite and at least 0."""
    numbers = [n for value in settings.values() for n in (value if isinstance(value, tuple) else (value,))]
    return all(math.isfinite(number) and number >= 0.0 for number in numbers)


def _told(settings: Settings) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def _originals(table: dict[str, Plain]) -> dict[str, Any]:
    return {key: original(value) for key, value in table.items()}
