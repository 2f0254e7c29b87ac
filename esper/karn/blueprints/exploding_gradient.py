"""BP043, exploding gradient: after the onset each backward pass multiplies its gradient by ever more."""

from typing import Any

import torch
from torch import Tensor

from esper.karn.blueprints.hazard import Hazard, HazardBlueprint, describe

GROWTH = 4.0
"""Factor from one pass to the next: single precision overflows after about 64 passes."""
EXPONENT_MAX = 400
"""4 ** 400 is still a number in double precision."""


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is `factor` times what it should be."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


class ExplodingModule(Hazard):
    """Its own gradient, and what it sends back to the host, grow without bound; its output is sound."""

    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        exploded: Tensor = _Scaled.apply(y, GROWTH ** min(self.passes - self.onset, EXPONENT_MAX))  # type: ignore[no-untyped-call]
        return exploded


class ExplodingGradient(HazardBlueprint):
    descriptor = describe(
        43, "exploding gradient", "Its gradient grows fourfold with every pass, without bound.", 0.9
    )
    module = ExplodingModule
    tags = ("hazard", "gradient")
