"""Everything in a model but one module's own: what that module must not touch, and must not share."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from torch import Tensor, nn
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


def tensors_in(module: nn.Module) -> Iterator[Tensor]:
    """Its parameters and buffers, shared ones more than once, in one walk: a safe point has little time."""
    for part in module.modules():
        for tensor in chain(part._parameters.values(), part._buffers.values()):
            if tensor is not None:
                yield tensor


def memory_of(model: nn.Module) -> set[int]:
    """Where `model`'s parameters and buffers lie."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors_in(model) if tensor.numel()}


def shared_tensors(module: nn.Module, taken: Container[int]) -> list[str]:
    """Names of `module`'s parameters and buffers that lie in `taken` memory.

    One without a shape has no memory yet.
    """
    if not any(_lies_in(tensor, taken) for tensor in tensors_in(module)):
        return []
    own = chain(module.named_parameters(), module.named_buffers())
    return [name for name, tensor in own if _lies_in(tensor, taken)]


def _lies_in(tensor: Tensor, taken: Container[int]) -> bool:
    return not is_lazy(tensor) and tensor.untyped_storage().data_ptr() in taken
