"""The whole of an optimizer's state, by the names of its parameters: groups in their order, and entries.

group   members in their order, and every setting (rate, betas, momentum, a scheduler's marks)
entry   what the optimizer keeps of one parameter: tensors, numbers, None
"""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esper.tolaria.copies import CopiesOf, copied, nbytes_of

Parameters: TypeAlias = Mapping[str, nn.Parameter]
PARAMS = "params"


@dataclass(frozen=True)
class Group:
    """One group: the names of its parameters, and all else that it says."""

    members: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class OptimizerState:
    """All that an optimizer goes on from; `kind` is its class."""

    kind: str
    groups: tuple[Group, ...]
    entries: Mapping[str, Mapping[str, Any]]

    @property
    def nbytes(self) -> int:
        """Size of its tensors in bytes."""
        return sum(map(nbytes_of, self.entries.values()))


def take_optimizer(optimizer: Optimizer, parameters: Parameters, copies_of: CopiesOf) -> OptimizerState:
    """A copy of the state of `optimizer` over `parameters`, the model's; of others it says nothing."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    groups = []
    for group in optimizer.param_groups:
        settings = {key: copied(value) for key, value in group.items() if key != PARAMS}
        members = (names.get(id(parameter)) for parameter in group[PARAMS])
        groups.append(Group(tuple(name for name in members if name is not None), settings))
    entries = {
        names[id(parameter)]: copies_of(kept)
        for parameter, kept in optimizer.state.items()
        if id(parameter) in names
    }
    return OptimizerState(_kind(optimizer), tuple(groups), entries)


def flaw_of_optimizer(optimizer: Optimizer, state: OptimizerState, names: Set[str]) -> str:
    """Why `optimizer` could not go on from `state` over parameters of these names; empty if it could."""
    if state.kind != _kind(optimizer):
        return f"the optimizer was a {state.kind} and is a {_kind(optimizer)}"
    members = [name for group in state.groups for name in group.members]
    unknown = ({*members, *state.entries}) - names
    if unknown:
        return f"the optimizer had {', '.join(sorted(unknown)[:3])}, which the network does not have"
    if len(set(members)) < len(members):
        return "the optimizer had a parameter in two groups"
    return ""


def put_optimizer(
    optimizer: Optimizer,
    state: OptimizerState,
    parameters: Parameters,
    replaced: Collection[nn.Parameter] = (),
) -> None:
    """Have `optimizer` go on from `state`.

    Where there is room for a value it is copied there; the list of groups and a group that has kept its
    name stay the same objects, since a scheduler may hold them. A parameter that is not the model's stays in
    such a group, with what the optimizer keeps of it; not so the `replaced`, which were the model's.
    """
    ours = {id(parameter) for parameter in (*parameters.values(), *replaced)}
    present = {group.get("name"): group for group in optimizer.param_groups}
    groups, others = [], []
    for kept in state.groups:
        group = present.pop(kept.settings.get("name"), {})
        strange = [parameter for parameter in group.get(PARAMS, ()) if id(parameter) not in ours]
        group.clear()
        group[PARAMS] = [parameters[name] for name in kept.members] + strange
        others += strange
        group.update({key: copied(value) for key, value in kept.settings.items()})
        groups.append(group)
    optimizer.param_groups[:] = groups
    with torch.no_grad():
        entries: dict[Tensor, Any] = {
            parameters[name]: {
                key: _put(value, optimizer.state.get(parameters[name], {}).get(key), parameters[name])
                for key, value in kept.items()
            }
            for name, kept in state.entries.items()
        }
    entries |= {parameter: optimizer.state[parameter] for parameter in others if parameter in optimizer.state}
    optimizer.state.clear()
    optimizer.state.update(entries)


def put_settings(optimizer: Optimizer, state: OptimizerState) -> None:
    """Give the groups, which are those of `state`, the settings that they had, whoever had set them."""
    for group, kept in zip(optimizer.param_groups, state.groups, strict=True):
        group.update({key: copied(value) for key, value in kept.settings.items()})


def _put(value: Any, present: Any, parameter: nn.Parameter) -> Any:
    """`value`, over what is there if it is of its kind; a new tensor lies in memory as its parameter does."""
    if not isinstance(value, Tensor):
        return copied(value)
    if isinstance(present, Tensor) and fits(value, present):
        return present.copy_(value)
    if value.shape == parameter.shape:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    # What lies pinned was copied from where the parameter is, and is wanted there.
    return value.to(parameter.device, copy=True) if value.is_pinned() else value.clone()


def fits(value: Tensor, place: Tensor) -> bool:
    """Whether `value` can be written over `place` without a change of its kind."""
    return value.shape == place.shape and value.dtype == place.dtype


def _kind(optimizer: Optimizer) -> str:
    return type(optimizer).__qualname__
