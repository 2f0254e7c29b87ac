"""BP013, group norm: channels normalised group by group, f(h) = g · norm(h) + b with g = b = 0 at the start.

Wu and He 2018 (arXiv 1803.08494). A group's mean and variance are one example's own: over its channels and,
on sequences and images, over all positions. On tokens each position is normalised apart, so that none sees
a later one.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint, channel_dim
from esper.karn.layers import SPATIAL, channel_shape

EPSILON = 1e-5
"""Added to the variance, so that a constant group stays finite."""


class ScaledGroupNorm(nn.Module):
    """f(h) = g · norm(h) + b; h is (B, C, ...) with channels at 1, or (..., C) with channels at -1."""

    def __init__(self, shape: tuple[int, ...], groups: int, dim: int, *, over_positions: bool) -> None:
        super().__init__()
        self.groups, self.dim, self.over_positions = groups, dim, over_positions
        self.scale = nn.Parameter(torch.zeros(shape))
        self.offset = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        grouped = torch.unflatten(h, self.dim, (self.groups, -1))  # (B, G, C/G, ...) or (..., G, C/G)
        inside = 2 if self.dim == 1 else -1
        over = tuple(range(2, grouped.dim())) if self.over_positions else (inside,)
        centred = grouped - grouped.mean(over, keepdim=True)
        variance = centred.square().mean(over, keepdim=True)
        normal = (centred * torch.rsqrt(variance + EPSILON)).reshape(h.shape)
        return self.scale * normal + self.offset


class GroupNorm(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP013",
        name="group norm",
        tier=BlueprintTier.SAFE,
        description="Groups of channels normalised, then scaled and shifted.",
        allowed_parameters={"groups": BlueprintParameterBounds(1, 64)},
        risk=0.1,
        stage=2,
    )
    layouts = EVERY_LAYOUT
    tags = ("norm",)
    knob = None
    fixed: ClassVar[Mapping[str, float]] = {"groups": 4.0}
    """At most so many."""

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return ScaledGroupNorm(
            channel_shape(site),
            groups_of(site.channels, size["groups"]),
            channel_dim(site.layout),
            over_positions=site.layout in SPATIAL,
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0


def groups_of(channels: int, most: int) -> int:
    """The most groups of equal size, with two channels at least: one alone would be its own mean."""
    return max(groups for groups in range(1, most + 1) if groups == 1 or _fits(channels, groups))


def _fits(channels: int, groups: int) -> bool:
    return channels % groups == 0 and channels // groups >= 2
