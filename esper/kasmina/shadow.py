"""The shadow path: an isolated seed learns in a second forward pass that the host does not notice.

    training pass      x ─ above ─ h ─────────── below ─ loss        the host learns
    shadow pass        x ─ above ─ h ─ h + f(h) ─ below ─ loss       f learns, nothing else
                       └─ nothing requires a gradient ─┘

In the shadow pass no host tensor takes part in autograd, so its graph begins at the seed: the
backward pass covers what is below the site only, and h is detached by construction. Unlike
h + (s - s.detach()), whose gradient knows nothing of the seed's own size and diverges, the seed here
sees what its output does to the loss and stays bounded. A pass costs a forward of the whole host and
the backward below the site; every n-th batch is enough.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from esper.kasmina.aside import Inputs, call, device_of, frozen, spared_buffers
from esper.kasmina.graft import GraftError, Grafts
from esper.kasmina.stream import RandomStream

LossFn: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ShadowResult:
    """What one shadow pass showed of the seed."""

    loss: float
    """Loss of the mini-batch with the seed at alpha 1."""
    grad_norm: float
    """L2 norm of this pass's gradient of the seed; 0 if the loss does not depend on it."""
    rms_ratio: float
    """RMS of the seed's contribution over the RMS of the site's output."""
    finite: bool
    """Loss, contribution and gradient are free of NaN and infinity; if not, no gradient was left."""


class Tap:
    """A forward hook on a seed that remembers what went in and out in the last pass."""

    def __init__(self, seed_id: str) -> None:
        self._seed_id = seed_id
        self._seen: tuple[Tensor, Tensor] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen = inputs[0].detach(), output.detach()

    @property
    def reached(self) -> bool:
        """A pass has run the seed."""
        return self._seen is not None

    @property
    def seen(self) -> tuple[Tensor, Tensor]:
        """h and f(h).

        Raises:
            GraftError: the pass did not reach the seed's site.
        """
        if self._seen is None:
            raise GraftError(f"{self._seed_id} was not run: this forward pass does not reach its site")
        return self._seen

    @property
    def keeps_shape(self) -> bool:
        """f(h) has the shape and the type of h."""
        h, contribution = self.seen
        return h.shape == contribution.shape and h.dtype == contribution.dtype


@contextmanager
def tapped(grafts: Grafts, seed_id: str) -> Iterator[Tap]:
    """Passes with a tap on the seed."""
    tap = Tap(seed_id)
    handle = grafts.module(seed_id).register_forward_hook(tap)
    try:
        yield tap
    finally:
        handle.remove()


@contextmanager
def shadowed(
    grafts: Grafts, seed_id: str, stream: RandomStream, device: torch.device, spared: Sequence[nn.Module]
) -> Iterator[Tap]:
    """Passes with the seed at alpha 1 in which it alone can learn; the buffers of `spared` don't move."""
    with (
        stream.flowing(device),
        frozen(grafts.bystanders(seed_id).parameters),
        spared_buffers(spared),
        grafts.with_(seed_id),
        torch.enable_grad(),
        tapped(grafts, seed_id) as tap,
    ):
        yield tap


class ShadowPath:
    """The shadow passes of one isolated seed, with what they need looked up once.

    Good while the seed is in the model, whatever grows beside it.
    """

    def __init__(self, grafts: Grafts, seed_id: str, loss_fn: LossFn, stream: RandomStream) -> None:
        """
        Raises:
            GraftError: there is no such seed.
        """
        self._grafts = grafts
        self._seed_id = seed_id
        self._loss_fn = loss_fn
        self._stream = stream
        self._parameters = tuple(grafts.module(seed_id).parameters())

    def backward(self, inputs: Inputs, targets: Tensor) -> ShadowResult:
        """Add the shadow pass's gradient of the loss to the seed's `.grad`.

        Runs in the mode (train or eval) that the model is in. The seed's own buffers move as in training;
        the host's and other seeds' tensors, gradients and buffers, and the global random streams, do not.
        A pass that is not finite leaves no gradient.

        Raises:
            GraftError: the seed is live (it learns with the host), or the pass does not reach its site.
        """
        grafts, seed_id = self._grafts, self._seed_id
        if grafts.alpha(seed_id) > 0.0:
            alpha = grafts.alpha(seed_id)
            raise GraftError(f"{seed_id} is live at alpha {alpha}: it learns with the host; isolate it first")
        parameters = [parameter for parameter in self._parameters if parameter.requires_grad]
        spared = grafts.bystanders(seed_id).modules
        with shadowed(grafts, seed_id, self._stream, device_of(inputs), spared) as tap:
            loss = self._loss_fn(call(grafts.model, inputs), targets)
            gradients = gradients_of(loss, parameters)
        result = measure(loss, tap, gradients)
        if result.finite:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return result


def shadow_backward(
    grafts: Grafts,
    seed_id: str,
    inputs: Inputs,
    targets: Tensor,
    loss_fn: LossFn,
    stream: RandomStream,
) -> ShadowResult:
    """One pass on the shadow path of a seed: see `ShadowPath`."""
    return ShadowPath(grafts, seed_id, loss_fn, stream).backward(inputs, targets)


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor | None, ...]:
    """d loss / d parameter for each, None where the loss does not depend on it; no `.grad` changes."""
    if not parameters or not loss.requires_grad:
        return (None,) * len(parameters)
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def measure(loss: Tensor, tap: Tap, gradients: Sequence[Tensor | None]) -> ShadowResult:
    """The figures of one pass, fetched from the device at once."""
    h, contribution = tap.seen
    present = [gradient for gradient in gradients if gradient is not None]
    precision = torch.promote_types(h.dtype, torch.float32)
    norms = torch._foreach_norm([h, contribution, *present], 2.0, precision)
    figures: list[float] = torch.stack([loss.detach().to(precision), *norms]).tolist()
    loss_value, h_norm, contribution_norm, *gradient_norms = figures
    return ShadowResult(
        loss=loss_value,
        grad_norm=math.hypot(*gradient_norms),
        rms_ratio=ratio(_rms(contribution_norm, contribution.numel()), _rms(h_norm, h.numel())),
        finite=all(map(math.isfinite, figures)),
    )


def _rms(norm: float, numel: int) -> float:
    """Root of the mean square."""
    return norm / math.sqrt(max(numel, 1))


def ratio(part: float, whole: float) -> float:
    """part / whole; 0 / 0 is 0, anything else over 0 is infinite."""
    if whole == 0.0:
        return 0.0 if part == 0.0 else float("inf")
    return part / whole
