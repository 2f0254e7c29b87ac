"""BP011, layer norm: f(h) = g · (h - mean) / deviation + b over the channels of each position, g = b = 0.

Ba et al. 2016 (arXiv 1607.06450). Added to h, it pulls a position's channels to a common size and offset as
far as g and b learn to.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint, channel_dim
from esper.karn.layers import channel_shape

EPSILON = 1e-5
"""Added to the variance, so that equal channels stay finite."""


class ScaledLayerNorm(nn.Module):
    """f(h) = g · (h - mean) / deviation + b, mean and deviation over dim `dim`; g and b of shape `shape`."""

    def __init__(self, shape: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.zeros(shape))
        self.offset = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        centred = h - h.mean(self.dim, keepdim=True)
        variance = centred.square().mean(self.dim, keepdim=True)
        return self.scale * (centred * torch.rsqrt(variance + EPSILON)) + self.offset


class LayerNorm(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP011",
        name="layer norm",
        tier=BlueprintTier.SAFE,
        description="Each position's channels normalised, scaled and shifted.",
        risk=0.1,
        stage=2,
    )
    layouts = EVERY_LAYOUT
    tags = ("norm",)
    knob = None

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return ScaledLayerNorm(channel_shape(site), channel_dim(site.layout))

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0
