"""Which optimizer and which schedule a run has: those that the configuration names, or the task's own."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from contracts.config import TrainConfig
from esper.tolaria.driven import Driven
from esper.tolaria.errors import BadOptimizer
from esper.tolaria.foreign import foreign_optimizer
from esper.tolaria.optimizer import Named, make_optimizer
from esper.tolaria.schedule import Cosine, Cycled, Linear, OneCycle, Schedule
from esper.tolaria.task import Task
from esper.tolaria.watch import OWNED

_ADAM = ("betas", "weight_decay")
_OF_OPTIMIZER = {
    "adam": _ADAM,
    "adamw": _ADAM,
    "adam_amsgrad": _ADAM,
    "sgd": ("momentum", "weight_decay"),
    "rmsprop": ("momentum", "weight_decay"),
}
"""The settings that mean something for each optimizer."""
_OF_SCHEDULE = {
    "linear": ("decay_from", "final_rate"),
    "one_cycle": ("rise_until", "start_rate", "final_rate", "cycled_momentum"),
    "cosine": ("final_rate",),
    "plateau": ("plateau_epochs", "plateau_gain", "plateau_factor", "final_rate"),
    "constant": (),
}
"""The settings that mean something for each schedule."""
_DEFAULTS = TrainConfig()
_SAYABLE = (bool, int, float, str, tuple, type(None))
RATE = "lr of the optimizer"
"""As `ingredients` names it: the one that a run may change on its way, as its schedule goes by it."""


def optimizer_of(task: Task, train: TrainConfig, host: Named) -> Optimizer:
    """The run's optimizer over the host.

    Raises:
        BadOptimizer: it can't be used, or a setting has no meaning for it; see also `foreign_optimizer`.
    """
    faults = [*_optimizer_faults(task, train), *_schedule_faults(task, train)]
    if faults:
        raise BadOptimizer("\n".join(faults))
    if task.optimizer is None:
        return make_optimizer(host, train)
    optimizer = foreign_optimizer(task.optimizer, host)
    rate = float(optimizer.param_groups[0]["lr"])
    if train.learning_rate not in (_DEFAULTS.learning_rate, rate):
        raise BadOptimizer(
            f"train.learning_rate = {train.learning_rate:g} has no meaning beside the task's own optimizer, "
            f"which has {rate:g}; leave it out"
        )
    return optimizer


def ingredients(optimizer: Optimizer) -> dict[str, str]:
    """What the optimizer is, by name: its class, and each group's settings as they are now.

    Of what is no number, text or tuple of them nothing is said.
    """
    found = {"the optimizer": type(optimizer).__qualname__}
    for number, group in enumerate(optimizer.param_groups):
        which = f" (group {number + 1})" if number else ""
        for key, value in group.items():
            if key not in ("params", "name", OWNED) and isinstance(value, _SAYABLE):
                found[f"{key} of the optimizer{which}"] = str(value)
    return found


def schedule_of(task: Task, train: TrainConfig, optimizer: Optimizer) -> Schedule:
    """The schedule of its rate, which at its highest is the optimizer's.

    Raises:
        BadOptimizer: the task's own can't be used.
    """
    if task.scheduler is not None:
        return Driven(task.scheduler, task.scheduler_every, optimizer)
    group = optimizer.param_groups[0]
    peak = float(group["lr"])
    match train.schedule:
        case "linear":
            return Linear(peak, train.decay_from, train.final_rate)
        case "constant":
            return Linear(peak, 1.0, 1.0)
        case "cosine":
            return Cosine(peak, train.final_rate)
        case "one_cycle":
            cycled = _cycled(group, train.cycled_momentum)
            return OneCycle(peak, train.rise_until, train.start_rate, train.final_rate, cycled)
        case "plateau":
            return Driven(lambda stand_in: _plateau(stand_in, train, peak), "epoch", optimizer)


def _plateau(stand_in: Optimizer, train: TrainConfig, peak: float) -> ReduceLROnPlateau:
    return ReduceLROnPlateau(
        stand_in,
        factor=train.plateau_factor,
        patience=train.plateau_epochs - 1,
        threshold=train.plateau_gain,
        min_lr=peak * train.final_rate,
        eps=0.0,
    )


def _cycled(group: dict[str, Any], ends: tuple[float, float]) -> Cycled | None:
    """What one_cycle does with momentum; None where there is none."""
    low, high = ends
    if "betas" in group:
        first, *rest = group["betas"]
        return Cycled("betas", low, high, tuple(rest)) if first else None
    return Cycled("momentum", low, high) if group.get("momentum") else None


def _optimizer_faults(task: Task, train: TrainConfig) -> Iterator[str]:
    settings = dict.fromkeys(key for keys in _OF_OPTIMIZER.values() for key in keys)
    if task.optimizer is not None:
        for key in ("optimizer", *settings):
            if _given(train, key):
                yield f"{_told(train, key)} has no meaning beside the task's own optimizer; leave it out"
        return
    for key in settings:
        if _given(train, key) and key not in _OF_OPTIMIZER[train.optimizer]:
            yield f"{_told(train, key)} has no meaning for {train.optimizer}; {_belongs(key, _OF_OPTIMIZER)}"


def _schedule_faults(task: Task, train: TrainConfig) -> Iterator[str]:
    settings = dict.fromkeys(key for keys in _OF_SCHEDULE.values() for key in keys)
    if task.scheduler is None and task.scheduler_every is not None:
        yield "scheduler_every is given without a scheduler; leave it out, or give one"
    if task.scheduler is not None:
        for key in ("schedule", *settings):
            if _given(train, key):
                yield f"{_told(train, key)} has no meaning beside the task's own scheduler; leave it out"
        return
    for key in settings:
        if _given(train, key) and key not in _OF_SCHEDULE[train.schedule]:
            yield f"{_told(train, key)} has no meaning for {train.schedule}; {_belongs(key, _OF_SCHEDULE)}"
    low, high = train.cycled_momentum
    if low > high:
        yield f"{_told(train, 'cycled_momentum')} is refused; the least comes first"


def _given(train: TrainConfig, key: str) -> bool:
    return bool(getattr(train, key) != getattr(_DEFAULTS, key))


def _told(train: TrainConfig, key: str) -> str:
    value = getattr(train, key)
    return f"train.{key} = {list(value) if isinstance(value, tuple) else value}"


def _belongs(key: str, table: Mapping[str, tuple[str, ...]]) -> str:
    owners = [name for name, keys in table.items() if key in keys]
    return f"it belongs to {', '.join(owners)}"
