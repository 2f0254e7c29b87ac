"""The whole of a network: its tensors, what has grown in it and in which order, and every module's own state.

A network is brought back in three steps: look whether it can be, put what has grown back in its place, then
write the values. The order of the seeds is part of it, because sums of floats depend on it.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from esper.kasmina.anchor import SiteError, find_anchor
from esper.kasmina.bystanders import memory_of, shared_tensors
from esper.kasmina.graft import Grafts
from esper.kasmina.slot import CHILD, is_grown, key_of
from esper.tolaria.copies import CopiesOf, copied, nbytes_of
from esper.tolaria.groups import fits


@dataclass(frozen=True)
class Planted:
    """A seed in its place; `alpha` is how much its output counts, 0 is isolated."""

    seed_id: str
    site: str
    alpha: float


@dataclass(frozen=True)
class Network:
    """A network at one moment, without its modules.

    `extras` are what modules say by `get_extra_state`, `frozen` the parameters that do not learn, `resting`
    the modules in eval mode; all by name.
    """

    seeds: tuple[Planted, ...]
    """In the order of insertion."""
    tensors: Mapping[str, Tensor]
    extras: Mapping[str, Any]
    frozen: tuple[str, ...]
    resting: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Size of its tensors in bytes."""
        return nbytes_of(self.tensors)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a network is made of, by name, each thing under its first one."""

    modules: Mapping[str, nn.Module]
    parameters: Mapping[str, nn.Parameter]
    buffers: Mapping[str, Tensor]
    """Those that a state dict leaves out included."""


def inventory_of(model: nn.Module) -> Inventory:
    """All of it in one walk, which is done while training waits."""
    modules: dict[str, nn.Module] = {}
    parameters: dict[str, nn.Parameter] = {}
    buffers: dict[str, Tensor] = {}
    modules_seen, parameters_seen, buffers_seen = set[int](), set[int](), set[int]()
    ahead = [("", model)]
    while ahead:
        name, module = ahead.pop()
        if id(module) in modules_seen:
            continue
        modules_seen.add(id(module))
        modules[name] = module
        start = f"{name}." if name else ""
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in parameters_seen:
                parameters_seen.add(id(parameter))
                parameters[start + key] = parameter
        for key, buffer in module._buffers.items():
            if buffer is not None and id(buffer) not in buffers_seen:
                buffers_seen.add(id(buffer))
                buffers[start + key] = buffer
        ahead += [(start + key, part) for key, part in reversed(module._modules.items()) if part is not None]
    return Inventory(modules, parameters, buffers)


def take_network(grafts: Grafts, inventory: Inventory, copies_of: CopiesOf) -> Network:
    """A copy of the network as it is, which is made of this; its seeds' modules are not in it."""
    modules, parameters = inventory.modules, inventory.parameters
    return Network(
        seeds=tuple([Planted(one, grafts.site_of(one), grafts.alpha(one)) for one in grafts.seed_ids()]),
        tensors=copies_of({**parameters, **inventory.buffers}),
        extras={name: _extra(module) for name, module in modules.items() if _has_extra(module)},
        frozen=tuple([name for name, parameter in parameters.items() if not parameter.requires_grad]),
        resting=tuple([name for name, module in modules.items() if not module.training]),
    )


def modules_of(grafts: Grafts) -> dict[str, nn.Module]:
    """The module of every seed in place, the very object."""
    return {seed_id: grafts.module(seed_id) for seed_id in grafts.seed_ids()}


def flaw_of_network(grafts: Grafts, network: Network, modules: Mapping[str, nn.Module]) -> str:
    """Why the network could not be brought back to `network` with these modules; empty if it could."""
    places = dict(_host(grafts.model))
    like = next((parameter for _, parameter in grafts.host_named_parameters()), torch.zeros(()))
    for seed in network.seeds:
        module = modules.get(seed.seed_id)
        if module is None or not 0.0 <= seed.alpha <= 1.0:
            return f"there is no module of {seed.seed_id}" if module is None else f"alpha is {seed.alpha}"
        try:
            start = f"{find_anchor(grafts.model, seed.site).name}.{CHILD}.seeds.{key_of(seed.seed_id)}"
        except SiteError as error:
            return f"{seed.seed_id} has no place: {error}"
        known = seed.seed_id in grafts.seed_ids() and grafts.module(seed.seed_id) is module
        if not known and shared_tensors(module, memory_of(grafts.model)):
            return f"the module of {seed.seed_id} shares tensors with the model"
        if not known:
            module.to(like)  # as it is when it is put in
        places[f"{start}.alpha"] = torch.zeros(()).to(like)
        places.update((f"{start}.body.{name}", tensor) for name, tensor in tensors_of(module).items())
    return _misfit(network.tensors, places)


def regrow(grafts: Grafts, seeds: Sequence[Planted], modules: Mapping[str, nn.Module]) -> None:
    """Take out what came since, put back what was taken out, all in the order of `seeds` and isolated."""
    present = grafts.seed_ids()
    kept = 0
    for seed_id, seed in zip(present, seeds, strict=False):
        if seed_id != seed.seed_id or grafts.module(seed_id) is not modules[seed_id]:
            break
        kept += 1
    for seed_id in reversed(present[kept:]):
        grafts.remove(seed_id)
    for seed in seeds[kept:]:
        grafts.insert(seed.seed_id, seed.site, modules[seed.seed_id])


def put_network(grafts: Grafts, network: Network) -> None:
    """Write every value into the network, which holds its seeds already; gradients are forgotten."""
    model = grafts.model
    for seed in network.seeds:
        grafts.set_alpha(seed.seed_id, seed.alpha)
    write(tensors_of(model), network.tensors)
    frozen, resting = set(network.frozen), set(network.resting)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
        parameter.grad = None
    for name, module in model.named_modules():
        module.training = name not in resting
        if name in network.extras:
            module.set_extra_state(copy.deepcopy(network.extras[name]))


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Its parameters and buffers by name, those that a state dict leaves out included."""
    inventory = inventory_of(module)
    return {**inventory.parameters, **inventory.buffers}


def write(places: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Write each value over its place; an expanded tensor, which was looked at, is left as it is."""
    with torch.no_grad():
        for name, value in values.items():
            if not _overlaps(places[name]):
                places[name].copy_(value)


def _host(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in tensors_of(model).items() if not is_grown(name))


def _misfit(values: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> str:
    if values.keys() != places.keys():
        odd = sorted(values.keys() ^ places.keys())
        return f"the network has other tensors now: {', '.join(odd[:3])}"
    for name, place in places.items():
        value = values[name]
        if not fits(value, place):
            return (
                f"{name} is {place.dtype} of shape {tuple(place.shape)} now and was "
                f"{value.dtype} of shape {tuple(value.shape)}"
            )
        if _overlaps(place) and not torch.equal(place, value):
            return f"{name} is an expanded tensor whose values have changed"
    return ""


def _overlaps(tensor: Tensor) -> bool:
    """Entries of it share memory, as those of an expanded tensor do."""
    return any(stride == 0 < size - 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _has_extra(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state


def _extra(module: nn.Module) -> Any:
    return copied(module.get_extra_state())
