"""What a step has left on tensors and modules that it should not have touched.

A footprint is the bystanders' state at one moment, by name: two of them are compared. Identities and
version counters cost less than a microsecond a tensor and see every write that autograd sees; a write
through `.data` shows in the bits only, which an exact footprint copies.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor, nn

from esper.kasmina.aside import Inputs
from esper.kasmina.bystanders import Bystanders

Mark: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Footprint:
    """The bystanders' state at one moment."""

    marks: Mapping[str, Mark]
    bits: Mapping[str, Tensor]
    stream: Tensor
    """State of torch's global random stream on the CPU."""


def take(bystanders: Bystanders, batch: Iterable[Inputs], *, exact: bool) -> Footprint:
    """The state of `bystanders` and of the mini-batch's tensors now; `exact` copies their bits too."""
    tensors = list(chain.from_iterable((t,) if isinstance(t, Tensor) else t for t in batch))
    marks: dict[str, Mark] = {}
    for name, parameter in bystanders.named_parameters:
        gradient = parameter.grad
        marks[name] = (
            parameter._version,
            parameter.requires_grad,
            id(gradient),
            0 if gradient is None else gradient._version,
        )
    for name, module in bystanders.named_modules:
        marks[f"module {name}"] = _mark_of(module)
    for position, tensor in enumerate(tensors):
        marks[f"the mini-batch's tensor {position}"] = (tensor._version,)
    bits = {name: tensor.detach().clone() for name, tensor in _tensors(bystanders, tensors)} if exact else {}
    return Footprint(marks, bits, torch.get_rng_state())


def differences(before: Footprint, after: Footprint) -> list[str]:
    """What is not as it was, in words."""
    found = [f"{name} was changed" for name, mark in after.marks.items() if before.marks.get(name) != mark]
    if not found:
        pairs = ((name, before.bits.get(name), now) for name, now in after.bits.items())
        found = [
            f"{name} has other bits" for name, was, now in pairs if was is None or not same_bits(was, now)
        ]
    if not torch.equal(before.stream, after.stream):
        found.append("the global random stream was drawn from")
    return found


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal shape, type and bits; unlike ==, NaN equals itself and 0 differs from -0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def _mark_of(module: nn.Module) -> Mark:
    """Mode, hooks and buffers of one module."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    buffers = tuple((id(b), b._version) for b in module._buffers.values() if b is not None)
    return module.training, tuple(map(tuple, hooks)), buffers


def _tensors(bystanders: Bystanders, batch: Iterable[Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in bystanders.named_parameters:
        yield name, parameter
        if parameter.grad is not None:
            yield f"the gradient of {name}", parameter.grad
    for name, module in bystanders.named_modules:
        for key, buffer in module._buffers.items():
            if buffer is not None:
                yield f"{name}.{key}", buffer
    for position, tensor in enumerate(batch):
        yield f"the mini-batch's tensor {position}", tensor
