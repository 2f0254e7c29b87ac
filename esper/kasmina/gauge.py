"""One mini-batch's figures of a seed, measured aside: nothing is left behind."""

import math
from contextlib import ExitStack

import torch
from torch import Tensor

from contracts.growth import SeedFigures
from esper.kasmina.aside import Inputs, call, device_of, evaluating, spared_buffers
from esper.kasmina.graft import Grafts
from esper.kasmina.shadow import LossFn, ShadowResult, gradients_of, measure, shadowed, tapped
from esper.kasmina.stream import RandomStream


def gauge(
    grafts: Grafts, seed_id: str, inputs: Inputs, targets: Tensor, loss_fn: LossFn, stream: RandomStream
) -> SeedFigures:
    """Finite, shape_kept, grad_norm, rms_ratio and jump of a seed, live or isolated, at alpha 1.

    The gradient is the seed's own in the model's present mode, the host frozen; the jump is taken in
    eval mode, where no dropout mask differs. Parameters, gradients, buffers (the seed's too), modes and
    the global random streams are afterwards as they were. Costs three forward passes and a backward.
    A seed whose output can't be added to h, or has not its shape and type, is measured no further.

    Raises:
        GraftError: there is no such seed, or the pass does not reach its site.
    """
    jump = jump_of(grafts, seed_id, inputs)
    if jump is None:
        return SeedFigures(seed_id=seed_id, shape_kept=False)
    result = _gradient(grafts, seed_id, inputs, targets, loss_fn, stream)
    return SeedFigures(
        seed_id=seed_id,
        finite=result.finite and math.isfinite(jump),
        shape_kept=True,
        grad_norm=result.grad_norm,
        rms_ratio=result.rms_ratio,
        jump=jump,
    )


def jump_of(grafts: Grafts, seed_id: str, inputs: Inputs) -> float | None:
    """max |y₁ - y₀| / max |y₀|: the host's outputs with the seed at alpha 1 and without it, in eval mode.

    Infinite if either is not finite; None if the seed does not keep its site's shape and type.
    """
    with evaluating(grafts.model, device_of(inputs)), tapped(grafts, seed_id) as tap:
        with grafts.without(seed_id):
            before = call(grafts.model, inputs)
        try:
            with grafts.with_(seed_id):
                after = call(grafts.model, inputs)
        except RuntimeError:
            if tap.reached and not tap.keeps_shape:  # h + f(h) was impossible
                return None
            raise
    return _relative_change(before, after) if tap.keeps_shape else None


def starved(
    grafts: Grafts, inputs: Inputs, targets: Tensor, loss_fn: LossFn, stream: RandomStream
) -> tuple[str, ...]:
    """Host tensors that get a gradient from the host alone but none (or all zeros) from the grown model.

    Measured aside, in the model's present mode. Costs two forward and backward passes.
    """
    named = [(name, p) for name, p in grafts.host_named_parameters() if p.requires_grad]
    parameters = [parameter for _, parameter in named]

    def reached() -> list[bool]:
        with stream.flowing(device_of(inputs)), spared_buffers(tuple(grafts.model.modules())):
            loss = loss_fn(call(grafts.model, inputs), targets)
            return [g is not None and bool(g.any()) for g in gradients_of(loss, parameters)]

    with torch.enable_grad():
        grown = reached()
        with grafts.host_only():
            alone = reached()
    return tuple(
        name for (name, _), here, there in zip(named, grown, alone, strict=True) if there and not here
    )


def _gradient(
    grafts: Grafts, seed_id: str, inputs: Inputs, targets: Tensor, loss_fn: LossFn, stream: RandomStream
) -> ShadowResult:
    """As one shadow pass, but the seed's gradient and buffers stay as they are too."""
    parameters = [p for p in grafts.module(seed_id).parameters() if p.requires_grad]
    with ExitStack() as stack:
        spared = tuple(grafts.model.modules())
        tap = stack.enter_context(shadowed(grafts, seed_id, stream, device_of(inputs), spared))
        loss = loss_fn(call(grafts.model, inputs), targets)
        return measure(loss, tap, gradients_of(loss, parameters))


def _relative_change(before: Tensor, after: Tensor) -> float:
    if torch.equal(before, after):
        return 0.0 if bool(before.isfinite().all()) else math.inf
    change, size = (after - before).abs().max().item(), before.abs().max().item()
    if not (math.isfinite(change) and math.isfinite(size)):
        return math.inf
    return change / size if size > 0.0 else math.inf
