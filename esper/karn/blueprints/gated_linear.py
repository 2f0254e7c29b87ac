"""BP003, gated linear unit: one map to `width` channels times the GELU of another, normalised, then back.

The gated linear unit of Dauphin et al. 2017 (arXiv 1612.08083) with the GELU gate of Shazeer 2020 (GEGLU,
arXiv 2002.05202), and the product divided by its root mean square before the way back (the sub-layer
normalisation of Wang et al. 2022, arXiv 2210.06423, without weights). The maps are kernel-3 convolutions on
sequences and images, and act on each position apart on vectors and tokens.

Tried on a sequence task at equal parameters: a sigmoid as the gate and a pointwise way back are each worse;
without the normalisation the product of two maps is unstable at a learning rate of 1e-2.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint, channel_dim
from esper.karn.layers import (
    SPATIAL,
    Layer,
    convolution,
    convolution_flops,
    convolution_params,
    pointwise,
    pointwise_flops,
    pointwise_params,
)

RMS_EPSILON = 1e-5
"""Added to the mean square, so that a product of zeros stays zero."""


class GatedUnit(nn.Module):
    """f(h) = back(y / rms(y)), y = value(h) · gelu(gate(h)).

    `maps` gives value and gate in one product, one after the other in the channels. The mean square is one
    example's own, over channels and positions; over the channels alone for tokens, which must not see
    each other.
    """

    def __init__(self, maps: Layer, back: Layer, layout: Layout) -> None:
        super().__init__()
        self.maps, self.back = maps, back
        self.channel_dim = channel_dim(layout)
        self.tokens = layout is Layout.TOKENS

    def forward(self, h: Tensor) -> Tensor:
        value, gate = self.maps(h).chunk(2, dim=self.channel_dim)
        y = value * F.gelu(gate)
        mean_over = (-1,) if self.tokens else tuple(range(1, y.dim()))
        mean_square = y.square().mean(mean_over, keepdim=True)
        z: Tensor = self.back(y * torch.rsqrt(mean_square + RMS_EPSILON))
        return z


class GatedLinear(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP003",
        name="gated linear unit",
        tier=BlueprintTier.SAFE,
        description="Two maps to a few channels, one gating the other, normalised, then back.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.1,
        stage=1,
    )
    layouts = EVERY_LAYOUT
    tags = ("gate", "map")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        layer = convolution if site.layout in SPATIAL else pointwise
        return GatedUnit(
            maps=layer(site, site.channels, 2 * size["width"], generator),
            back=layer(site, size["width"], site.channels, None),
            layout=site.layout,
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        count = convolution_params if site.layout in SPATIAL else pointwise_params
        return count(site, site.channels, 2 * size["width"]) + count(site, size["width"], site.channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        count = convolution_flops if site.layout in SPATIAL else pointwise_flops
        return count(site, site.channels, 2 * size["width"]) + count(site, size["width"], site.channels)
