"""An optimizer that the task brings along: made, looked at and tried out on copies before the run begins."""

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esper.tolaria.errors import BadOptimizer
from esper.tolaria.optimizer import Named, admit, host_groups, twin
from esper.tolaria.randomness import untouched_streams
from esper.tolaria.rates import HOST
from esper.tolaria.schedule import settings_of
from esper.tolaria.task import OptimizerFactory
from esper.tolaria.trial import WRONG

log = logging.getLogger(__name__)

_TRIAL_GRADIENT = 1e-3


def foreign_optimizer(make: OptimizerFactory, host: Named) -> Optimizer:
    """What `make` makes for the host's parameters; its groups are named `host`, `host/1`, `host/2` …

    It is tried out on a copy: a seed's parameters come in and a step is taken. The host stays as it is.

    Raises:
        BadOptimizer: it is no optimizer, trains other parameters than the host's or not all of them, can't
            be copied, can't take in a seed, takes no step without a closure, or keeps what can't be kept by
            parameter name.
    """
    try:
        made: object = make(host_groups(host))
    except WRONG as error:
        raise BadOptimizer(f"the optimizer can't be made: {_line(error)}") from error
    if not isinstance(made, Optimizer):
        raise BadOptimizer(
            f"the optimizer's factory returned a {type(made).__name__}; it has to be a torch.optim.Optimizer"
        )
    _check_members(made, host)
    for number, group in enumerate(made.param_groups):
        group["name"] = HOST if number == 0 else f"{HOST}/{number}"
        _check_rate(made, group)
    _try_out(made, host)
    return made


def _check_members(optimizer: Optimizer, host: Named) -> None:
    """See that it trains the host's parameters and nothing else; frozen ones may be left out."""
    name, theirs = type(optimizer).__name__, [p for group in optimizer.param_groups for p in group["params"]]
    held, hosts = {id(p) for p in theirs}, {id(p) for _, p in host}
    left_out = [name for name, p in host if p.requires_grad and id(p) not in held]
    if left_out:
        raise BadOptimizer(
            f"the optimizer {name} leaves out {len(left_out)} of the model's parameters "
            f"({', '.join(left_out[:3])}); pass on all that its factory is given"
        )
    others = len(held - hosts)
    if others:
        raise BadOptimizer(
            f"the optimizer {name} has {others} parameters that are not the model's; "
            "make them part of the model, or train them elsewhere"
        )


def _check_rate(optimizer: Optimizer, group: dict[str, Any]) -> None:
    name = type(optimizer).__name__
    try:
        rate = settings_of(group)["lr"]
    except WRONG as error:
        raise BadOptimizer(f"a group of the optimizer {name} has no plain lr: {_line(error)}") from error
    if not (isinstance(rate, float) and rate > 0.0):
        raise BadOptimizer(f"a group of the optimizer {name} has lr = {rate}; it has to be a number above 0")


def _try_out(optimizer: Optimizer, host: Named) -> None:
    """Let a copy take in a seed of a matrix and a vector, and take two steps."""
    name, memo = type(optimizer).__name__, dict[int, Any]()
    with untouched_streams():
        try:
            trained = [copy.deepcopy(parameter, memo) for _, parameter in host]
            copied = twin(optimizer, memo)
        except WRONG as error:
            raise BadOptimizer(f"the optimizer {name} can't be copied: {_line(error)}") from error
        guests = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
        try:
            _step(copied, trained)
            before = _numbers(copied)
            admit(copied, "trial", [("matrix", guests[0]), ("vector", guests[1])], 1e-3)
            _step(copied, [*trained, *guests])
        except WRONG as error:
            raise BadOptimizer(
                f"the optimizer {name} can't train a network that grows: {_line(error)}"
            ) from error
    _check_state(copied, {id(parameter) for parameter in (*trained, *guests)})
    counts = sorted(key for key, value in _numbers(copied).items() if before.get(key) != value)
    if counts:
        log.warning(
            "the optimizer %s counts in %s, outside its state: a rollback or resume does not bring that back",
            name,
            ", ".join(counts),
        )


def _step(optimizer: Optimizer, parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, _TRIAL_GRADIENT)
    optimizer.step()


def _check_state(optimizer: Optimizer, known: set[int]) -> None:
    """See that its state is one of parameters, of tensors and numbers: that is what can be kept by name."""
    name = type(optimizer).__name__
    for owner, entries in optimizer.state.items():
        if id(owner) not in known:
            raise BadOptimizer(
                f"the optimizer {name} keeps state under {owner!r}, which is no parameter; "
                "it could be neither rolled back nor resumed"
            )
        odd = [key for key, value in entries.items() if not _can_be_kept(value)]
        if odd:
            raise BadOptimizer(
                f"the optimizer {name} keeps {odd[0]} ({type(entries[odd[0]]).__name__}) of a parameter; "
                "only tensors and numbers can be rolled back and resumed"
            )


def _can_be_kept(value: object) -> bool:
    return value is None or isinstance(value, Tensor | int | float | bool)


def _numbers(optimizer: Optimizer) -> dict[str, object]:
    """Its attributes that are plain numbers."""
    return {key: value for key, value in vars(optimizer).items() if type(value) in (int, float)}


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
