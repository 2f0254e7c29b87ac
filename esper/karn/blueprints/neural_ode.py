"""BP039, neural ODE: the input flows along a learned field for one unit of time; f is how far it went.

Chen et al. 2018, with fixed steps of the classical Runge-Kutta method instead of an adaptive solver: the cost
is known (four evaluations of the field a step), shapes are static, and gradients are those of what was
computed. The field is back(tanh(into(h) + t · drift)); its tanh bounds how fast the flow can go. Kernel-3
convolutions on sequences and images, maps at each position on vectors and tokens.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint, channel_dim
from esper.karn.layers import (
    SPATIAL,
    convolution,
    convolution_flops,
    convolution_params,
    pointwise,
    pointwise_flops,
    pointwise_params,
)
from esper.karn.rows import drawn

EVALUATIONS = 4
"""Of the field, in one step of the classical Runge-Kutta method."""


class Field(nn.Module):
    """dh/dt = back(tanh(into(h) + t · drift)); 0 at the start."""

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        make = convolution if site.layout in SPATIAL else pointwise
        self.into = make(site, site.channels, width, generator)
        self.drift = drawn((width,), generator)
        self.back = make(site, width, site.channels, None)
        self.channel_dim = channel_dim(site.layout)

    def forward(self, h: Tensor, t: float) -> Tensor:
        x = self.into(h).movedim(self.channel_dim, -1) + t * self.drift
        speed: Tensor = self.back(torch.tanh(x.movedim(-1, self.channel_dim)))
        return speed


class Flow(nn.Module):
    """f(h) = h(1) - h(0) with h(0) = h, for any field of (h, t), by `steps` Runge-Kutta steps."""

    def __init__(self, field: nn.Module, steps: int) -> None:
        super().__init__()
        self.field, self.steps = field, steps

    def forward(self, h: Tensor) -> Tensor:
        moved, dt = torch.zeros_like(h), 1 / self.steps
        for step in range(self.steps):
            moved = moved + dt * self._mean_speed(h + moved, step * dt, dt)
        return moved

    def _mean_speed(self, h: Tensor, t: float, dt: float) -> Tensor:
        """Kutta 1901: the weighted mean of four speeds, exact up to dt⁴."""
        first = self.field(h, t)
        second = self.field(h + dt / 2 * first, t + dt / 2)
        third = self.field(h + dt / 2 * second, t + dt / 2)
        fourth: Tensor = self.field(h + dt * third, t + dt)
        speed: Tensor = (first + 2 * second + 2 * third + fourth) / 6
        return speed


class NeuralOde(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP039",
        name="neural ODE",
        tier=BlueprintTier.EXPERIMENTAL,
        description="The input flows along a learned field for one unit of time, in a few Runge-Kutta steps.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 1024),
            "steps": BlueprintParameterBounds(1, 8),
        },
        risk=0.5,
        stage=4,
        approval_required=True,
    )
    layouts = EVERY_LAYOUT
    tags = ("deep", "ode", "shared weights")
    fixed: ClassVar[Mapping[str, float]] = {"steps": 2.0}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Flow(Field(site, size["width"], generator), size["steps"])

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        count = convolution_params if site.layout in SPATIAL else pointwise_params
        return count(site, channels, width) + width + count(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        count = convolution_flops if site.layout in SPATIAL else pointwise_flops
        return size["steps"] * EVALUATIONS * 2 * count(site, site.channels, size["width"])
