"""Everything in a model but one module's own: what that module must not touch, and must not share."""

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from torch import nn
from torch.nn import Parameter
from torch.nn.parameter import is_lazy


@dataclass(frozen=True)
class Bystanders:
    """Everything in the model that is not one seed's own, under its name in the model."""

    named_parameters: tuple[tuple[str, Parameter], ...]
    named_modules: tuple[tuple[str, nn.Module], ...]

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(parameter for _, parameter in self.named_parameters)

    @cached_property
    def modules(self) -> tuple[nn.Module, ...]:
        return tuple(module for _, module in self.named_modules)


def bystanders_of(module: nn.Module, model: nn.Module) -> Bystanders:
    """Everything in `model` that is not in `module`."""
    modules, parameters = set(module.modules()), set(module.parameters())
    return Bystanders(
        tuple((name, p) for name, p in model.named_parameters() if p not in parameters),
        tuple((name, m) for name, m in model.named_modules() if m not in modules),
    )


def memory_of(model: nn.Module) -> set[int]:
    """Where `model`'s parameters and buffers lie."""
    tensors = chain(model.parameters(), model.buffers())
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}


def shared_tensors(module: nn.Module, taken: Container[int]) -> list[str]:
    """Names of `module`'s parameters and buffers that lie in `taken` memory.

    One without a shape has no memory yet.
    """
    own = chain(module.named_parameters(), module.named_buffers())
    return [n for n, tensor in own if not is_lazy(tensor) and tensor.untyped_storage().data_ptr() in taken]
