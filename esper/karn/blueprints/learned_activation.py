"""BP014, learned activation: f(h) = c · h + Σ a · max(0, b - h) in each channel, c and all a 0 at the start.

The adaptive piecewise linear unit of Agostinelli et al. 2015 (arXiv 1412.6830), with a learned slope in place
of its fixed max(0, h): h + f(h) is an activation function of the channel's own, with a bend at each hinge b.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.layers import channel_shape, drawn

SPAN = 2.0
"""Hinges start within ± this: where activations mostly are."""


class Hinges(nn.Module):
    """f(h) = c · h + Σ_s a_s · relu(b_s - h); a and b are (S, C, 1, ...), or (S, C) for tokens."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(shape[1:]))
        self.bend = nn.Parameter(torch.zeros(shape))
        self.place = drawn(shape, SPAN, generator)

    def forward(self, h: Tensor) -> Tensor:
        y = self.slope * h
        for bend, place in zip(self.bend, self.place, strict=True):  # no (S, B, ...) tensor in between
            y = y + bend * torch.relu(place - h)
        return y


class LearnedActivation(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP014",
        name="learned activation",
        tier=BlueprintTier.SAFE,
        description="A learned piecewise linear function in each channel.",
        allowed_parameters={"hinges": BlueprintParameterBounds(1, 16)},
        risk=0.12,
        stage=2,
    )
    layouts = EVERY_LAYOUT
    tags = ("activation",)
    knob = "hinges"

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Hinges((size["hinges"], *channel_shape(site)), generator)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return (2 * size["hinges"] + 1) * site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0
