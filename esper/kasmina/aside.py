"""Forward passes aside: what a pass would leave behind in the host is kept away from it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from esper.kasmina.slot import Slot
from esper.kasmina.stream import kept_streams

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
"""A mini-batch: a tensor, or one tensor for each argument of the forward pass; the batch comes first."""


@contextmanager
def frozen(parameters: Sequence[Parameter]) -> Iterator[None]:
    """No parameter of `parameters` takes part in autograd; graphs recorded before keep theirs.

    The flag is turned instead of a detached tensor put in place (`torch.func.functional_call`): the
    same gradients for a hundredth of the time, and tied or reparametrised weights need no care.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def spared_buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Passes see copies of the modules' buffers (batch norm's statistics), which are then forgotten.

    The tensors themselves are put back, not their values: a graph that holds one is undisturbed. Read
    from `_buffers`, which is 30 times cheaper than `named_buffers` and sees late registrations.
    """
    owners = [module._buffers for module in modules if module._buffers and not isinstance(module, Slot)]
    kept = [(buffers, dict(buffers)) for buffers in owners]
    copies: dict[Tensor, Tensor] = {}
    try:
        for buffers, originals in kept:
            for name, original in originals.items():
                if original is not None:
                    if original not in copies:
                        copies[original] = original.clone()
                    buffers[name] = copies[original]
        yield
    finally:
        for buffers, originals in kept:
            buffers.update(originals)


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Every module is in train or eval mode, and afterwards in the mode that it was in.

    The flag alone is turned: a module's own `train` method may do more (merge weights, say).
    """
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = training
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode without gradients; buffers, modes and random streams are afterwards as they were."""
    with ExitStack() as stack:
        stack.enter_context(kept_streams(device))
        stack.enter_context(in_mode(model, training=False))
        stack.enter_context(spared_buffers(tuple(model.modules())))
        stack.enter_context(torch.no_grad())
        yield


def device_of(inputs: Inputs) -> torch.device:
    """The device of a batch."""
    return inputs.device if isinstance(inputs, Tensor) else inputs[0].device


def call(model: nn.Module, inputs: Inputs) -> Tensor:
    """The model's outputs for a batch; a tuple's entries are the arguments of its forward pass."""
    outputs: Tensor = model(inputs) if isinstance(inputs, Tensor) else model(*inputs)
    return outputs
