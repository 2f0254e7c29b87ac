"""The checks that a kernel must pass before it is certified.

They look at a module as it might be after some training: a new one gives exactly 0 and has gradients of 0,
and two zeros compare equal whatever made them.
"""

import copy
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from contracts.kernels import Design
from esper.karn.blueprint import Blueprint

EPSILONS = 128
"""Tolerance of a comparison, in units of the dtype's machine epsilon: 1.5e-5 for float32."""
SMALL_TENSOR_SHARE = 0.01
"""A tensor smaller than this share of the largest is compared relative to that share: rounding noise is
all that there is of a gradient whose exact value is 0 (a softmax does not see its logits' common shift)."""
BATCHES = (1, 2, 3, 8)
"""Batch sizes at which a reopened program is compared; the export saw another one."""
STREAM = 20
"""Seed of the stream for inputs and trained values."""


class Unsound(Exception):
    """A kernel failed a check; doing it again would give the same."""


class Pass(NamedTuple):
    """One forward and backward pass."""

    output: Tensor
    gradients: dict[str, Tensor]
    """By the parameter's name; that of the input is ``input``."""


def seasoned(module: nn.Module) -> nn.Module:
    """A copy with every parameter moved at random, as far as its layer's initial values would lie."""
    stream = torch.Generator().manual_seed(STREAM)
    moved = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in moved.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            bound = fan_in**-0.5
            parameter.add_(torch.empty_like(parameter).uniform_(-bound, bound, generator=stream))
    return moved


def inputs(batch: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal, (batch, *shape); the same for the same arguments."""
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(STREAM + batch))


def run(module: nn.Module, h: Tensor) -> Pass:
    """Forward and backward, h (B, *shape), with a random cotangent on the output.

    Raises:
        Unsound: the output has another shape than `h`.
    """
    fed = h.clone().requires_grad_()
    output = module(fed)
    if output.shape != h.shape:
        raise Unsound(f"it takes {tuple(h.shape)} and gives {tuple(output.shape)}")
    named = {"input": fed, **{name: p for name, p in module.named_parameters() if p.requires_grad}}
    cotangent = torch.randn(h.shape, generator=torch.Generator().manual_seed(STREAM))
    found = torch.autograd.grad(output, list(named.values()), cotangent, allow_unused=True)
    gradients = {
        name: torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in zip(named.items(), found, strict=True)
    }
    return Pass(output.detach(), gradients)


def difference(reference: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Largest difference between tensors of one name, relative to the largest value of that tensor.

    Infinite if something is not finite.

    Raises:
        Unsound: they have other names or shapes.
    """
    if _shapes(reference) != _shapes(other):
        raise Unsound(f"the program has the tensors {_shapes(other)}, the module {_shapes(reference)}")
    sizes = {name: _largest(value) for name, value in reference.items()}
    floor = SMALL_TENSOR_SHARE * max(sizes.values(), default=0.0)
    worst = 0.0
    for name, value in reference.items():
        apart = _largest(value - other[name])
        if not math.isfinite(apart):
            return math.inf  # a NaN is passed over by `max`
        worst = max(worst, apart / max(sizes[name], floor, torch.finfo(value.dtype).tiny))
    return worst


def check_start(module: nn.Module, design: Design) -> None:
    """The new module's contribution is exactly 0.

    Raises:
        Unsound: it isn't.
    """
    with torch.no_grad():
        output = module(inputs(3, design.shape))
    if bool(output.ne(0.0).any()):
        raise Unsound(f"its contribution at the start is not 0 but up to {_largest(output):g}")


def check_behaviour(trained: nn.Module, design: Design) -> None:
    """Finite, not always zero, the same twice, and the global random stream is left alone.

    Raises:
        Unsound: one of these doesn't hold.
    """
    h = inputs(3, design.shape)
    before = torch.get_rng_state()
    first, second = run(trained, h), run(trained, h)
    if not torch.equal(before, torch.get_rng_state()):
        raise Unsound("it draws from the global random stream")
    for name, value in {"output": first.output, **first.gradients}.items():
        if not bool(value.isfinite().all()):
            raise Unsound(f"{name} is not finite")
    if not bool(first.output.any()):
        raise Unsound("its output stays 0 whatever its parameters are")
    same = torch.equal(first.output, second.output) and all(
        torch.equal(first.gradients[name], second.gradients[name]) for name in first.gradients
    )
    if not same:
        raise Unsound("the same input gives another result the second time")


def check_costs(module: nn.Module, design: Design, blueprint: Blueprint) -> None:
    """Parameters and FLOPs, counted, are those that the blueprint's formulas give.

    Raises:
        Unsound: they aren't.
    """
    params = sum(p.numel() for p in module.parameters() if p.requires_grad)
    promised = blueprint.params(design.site, design.parameters)
    if params != promised:
        raise Unsound(f"it has {params:,} parameters; its formula says {promised:,}")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(inputs(1, design.shape))
    flops, promised = counter.get_total_flops(), blueprint.forward_flops(design.site, design.parameters)
    if flops != promised:
        raise Unsound(f"it takes {flops:,} FLOPs; its formula says {promised:,}")


def compare(trained: nn.Module, reopened: nn.Module, design: Design) -> tuple[float, float]:
    """Largest relative error of outputs and of gradients over `BATCHES`; `reopened` gets `trained`'s values.

    Raises:
        Unsound: an error is above the tolerance, or a batch size is not taken.
    """
    reopened.load_state_dict(trained.state_dict())
    output_error = gradient_error = 0.0
    for batch in BATCHES:
        h = inputs(batch, design.shape)
        ours = run(trained, h)
        try:
            theirs = run(reopened, h)
        except (RuntimeError, AssertionError) as error:
            raise Unsound(f"the exported program does not take a batch of {batch}: {error}") from error
        apart = _apart(ours, theirs)
        output_error, gradient_error = max(output_error, apart[0]), max(gradient_error, apart[1])
    _check_tolerance("after the round trip", output_error, gradient_error)
    return output_error, gradient_error


def check_same(trained: nn.Module, native: Pass, h: Tensor) -> None:
    """What was computed from `h` in another way is what `trained` computes.

    Raises:
        Unsound: an output or a gradient differs by more than the tolerance.
    """
    _check_tolerance("compiled natively", *_apart(run(trained, h), native))


def _apart(ours: Pass, theirs: Pass) -> tuple[float, float]:
    """Largest relative error of the output and of the gradients."""
    output_error = difference({"output": ours.output}, {"output": theirs.output})
    return output_error, difference(ours.gradients, theirs.gradients)


def _check_tolerance(when: str, output_error: float, gradient_error: float) -> None:
    tolerance = EPSILONS * torch.finfo(torch.get_default_dtype()).eps
    for name, apart in (("outputs", output_error), ("gradients", gradient_error)):
        if not apart <= tolerance:
            raise Unsound(f"{when} its {name} differ by {apart:.2g}; {tolerance:.2g} is allowed")


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in sorted(tensors.items())}
