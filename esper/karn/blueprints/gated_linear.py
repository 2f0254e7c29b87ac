"""BP003, gated linear unit: one map to `width` channels gated by the sigmoid of another, then back.

Dauphin et al. 2017, "Language modeling with gated convolutional networks": (V * h) · σ(W * h). The maps
are kernel-3 convolutions on sequences and images, and act on each position apart on vectors and tokens
(the feed-forward form of Shazeer 2020).
"""

from collections.abc import Mapping

import torch
from torch import nn

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


class GatedLinear(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP003",
        name="gated linear unit",
        tier=BlueprintTier.SAFE,
        description="Two maps to a few channels, one gating the other, then pointwise back.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.1,
    )
    layouts = EVERY_LAYOUT

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        both = 2 * size["width"]  # value and gate in one product
        maps = convolution if site.layout in SPATIAL else pointwise
        return nn.Sequential(
            maps(site, site.channels, both, generator),
            nn.GLU(dim=channel_dim(site.layout)),
            pointwise(site, size["width"], site.channels, None),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        both = 2 * size["width"]
        maps = (
            convolution_params(site, site.channels, both)
            if site.layout in SPATIAL
            else pointwise_params(site.channels, both)
        )
        return maps + pointwise_params(size["width"], site.channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        flops = convolution_flops if site.layout in SPATIAL else pointwise_flops
        return flops(site, site.channels, 2 * size["width"]) + pointwise_flops(
            site, size["width"], site.channels
        )
