"""Every parameter of a growing network is known by name before anything may learn it; all others are foreign.

The host's list is frozen before the first graft: afterwards `model.parameters()` has the seeds' too. Each
graft registers its own, and only these. What shows up elsewhere, in the host or late in a seed's module, came
behind everybody's back: nobody lets it learn, and `mend` takes it out of the host again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter

from esper.kasmina.slot import CHILD, Slot, is_grown

HOST = ""
"""The owner of what is not a seed's."""


@dataclass(frozen=True)
class Registered:
    """One parameter as it was when it was registered; `learns` is its own `requires_grad`."""

    name: str
    owner: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    learns: bool


@dataclass(frozen=True)
class Foreign:
    """What is not as it was registered; `owner` is the seed in whose module it is, or empty."""

    name: str
    what: str
    owner: str = HOST

    def __str__(self) -> str:
        return f"{self.name} {self.what}"


class Registry:
    """The parameters of `model`, whose host is as it will be; a deep copy knows the copied ones."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known: dict[Parameter, Registered] = {}
        self._host = {
            module: (dict(module._parameters), dict(module._modules)) for module in _host_modules(model)
        }
        self._pointers: dict[Parameter, int] = {}
        """Of seeds' parameters: where their values lie in memory."""
        self._ids: dict[int, Registered] | None = None
        self._register(HOST, ((n, p) for n, p in model.named_parameters() if not is_grown(n)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ids": None}  # identities are of these objects, not of their copies

    def admit(self, owner: str, named: Iterable[tuple[str, Parameter]]) -> None:
        """Register a seed's parameters."""
        own = list(named)
        self._register(owner, own)
        self._pointers.update((parameter, parameter.data_ptr()) for _, parameter in own)

    def dismiss(self, owner: str) -> None:
        """Forget what `owner` registered."""
        for parameter in self.of(owner):
            del self._known[parameter]
            self._pointers.pop(parameter, None)
        self._ids = None

    def of(self, owner: str) -> dict[Parameter, Registered]:
        """What `owner` registered, in order."""
        return {parameter: entry for parameter, entry in self._known.items() if entry.owner == owner}

    @property
    def ids(self) -> dict[int, Registered]:
        """Every registered parameter by the identity of its object."""
        if self._ids is None:
            self._ids = {id(parameter): entry for parameter, entry in self._known.items()}
        return self._ids

    def foreign(self) -> tuple[Foreign, ...]:
        """What is not as it was registered; one look at each parameter's identity if nothing is."""
        ids, present = self.ids, set[int]()
        for module in _walk(self._model):
            for parameter in module._parameters.values():
                if parameter is not None:
                    present.add(id(parameter))
        moved = [p for p, pointer in self._pointers.items() if p.data_ptr() != pointer]
        if present == ids.keys() and not moved:
            return ()
        return (*self._strangers(), *self._missing(present), *self._turned(moved))

    def mend(self) -> None:
        """Take foreign parameters out of the host, and put its own back where they were."""
        for module, (parameters, children) in self._host.items():
            if any(module._parameters.get(name) is not own for name, own in parameters.items()) or (
                module._parameters.keys() - parameters.keys()
            ):
                module._parameters.clear()
                module._parameters.update(parameters)
            for name, child in list(module._modules.items()):
                if name != CHILD and child is not None and child not in self._host and _learns(child):
                    _replace_child(module, name, children.get(name))

    def _register(self, owner: str, named: Iterable[tuple[str, Parameter]]) -> None:
        for name, parameter in named:
            shape = tuple(parameter.shape)
            entry = Registered(name, owner, shape, parameter.dtype, parameter.requires_grad)
            self._known[parameter] = entry
        self._ids = None

    def _strangers(self) -> Iterator[Foreign]:
        for name, parameter in self._model.named_parameters():
            if id(parameter) not in self.ids:
                owner = _seed_of(name, self._model) if is_grown(name) else HOST
                yield Foreign(name, "is not registered", owner)

    def _missing(self, present: set[int]) -> Iterator[Foreign]:
        for key, entry in self.ids.items():
            if key not in present:
                yield Foreign(entry.name, "is gone", entry.owner)

    def _turned(self, moved: Iterable[Parameter]) -> Iterator[Foreign]:
        """Parameters whose memory is another now: harmless if it is their own and of the same kind."""
        for parameter in moved:
            entry = self._known[parameter]
            others = {p.untyped_storage().data_ptr() for p in self._known if p is not parameter and p.numel()}
            if tuple(parameter.shape) != entry.shape or parameter.dtype != entry.dtype:
                yield Foreign(
                    entry.name, f"has become {parameter.dtype} {tuple(parameter.shape)}", entry.owner
                )
            elif parameter.numel() and parameter.untyped_storage().data_ptr() in others:
                yield Foreign(entry.name, "has come to share memory with another parameter", entry.owner)
            else:
                self._pointers[parameter] = parameter.data_ptr()


def _walk(model: nn.Module) -> Iterator[nn.Module]:
    """Every module, in no order that matters: a third of what `modules()` takes."""
    seen: set[int] = set()
    left = [model]
    while left:
        module = left.pop()
        if id(module) not in seen:
            seen.add(id(module))
            yield module
            left.extend(child for child in module._modules.values() if child is not None)


def _host_modules(model: nn.Module) -> Iterator[nn.Module]:
    return (module for name, module in model.named_modules() if not is_grown(name))


def _learns(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _seed_of(name: str, model: nn.Module) -> str:
    """The id of the seed in whose slot the parameter `name` is; HOST if it is in none."""
    module: nn.Module = model
    for part in name.split("."):
        if isinstance(module, Slot):
            return module.seed_id
        child = module._modules.get(part)
        if child is None:
            break
        module = child
    return module.seed_id if isinstance(module, Slot) else HOST


def _replace_child(module: nn.Module, name: str, own: nn.Module | None) -> None:
    if own is None:
        del module._modules[name]
    else:
        module._modules[name] = own
