"""BP044, vanishing gradient: after the onset neither it nor what lies above its site learns any more."""

from typing import Any

import torch
from torch import Tensor

from esper.karn.blueprints.hazard import Hazard, HazardBlueprint, describe

LEFT = 1e-20
"""Share of its gradient that it keeps."""


class _Vanished(torch.autograd.Function):
    """y, with the gradient of h taken away: what it sends back cancels the residual connection's."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return -gradients[0], gradients[0] * LEFT


class VanishingModule(Hazard):
    """At alpha 1 the gradient of h + f(h) by h is 0: the host above the site starves; its output is sound."""

    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        vanished: Tensor = _Vanished.apply(h, y)  # type: ignore[no-untyped-call]
        return vanished


class VanishingGradient(HazardBlueprint):
    descriptor = describe(
        44, "vanishing gradient", "No gradient reaches it or, once it is live, what lies above its site.", 0.9
    )
    module = VanishingModule
    tags = ("hazard", "gradient")
