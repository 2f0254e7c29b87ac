"""BP006, depthwise separable convolution: kernel 3 in each channel apart, pointwise to `width`, GELU, back.

Chollet 2017 (Xception); Howard et al. 2017 (MobileNets).
"""

from collections.abc import Mapping

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.layers import (
    SPATIAL,
    convolution,
    convolution_flops,
    convolution_params,
    pointwise,
    pointwise_flops,
    pointwise_params,
)


class DepthwiseSeparable(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP006",
        name="depthwise separable convolution",
        tier=BlueprintTier.SAFE,
        description="A kernel-3 convolution in each channel apart, then a pointwise bottleneck.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.1,
        stage=1,
    )
    layouts = SPATIAL
    tags = ("convolution", "separable")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        channels = site.channels
        return nn.Sequential(
            convolution(site, channels, channels, generator, groups=channels),
            pointwise(site, channels, size["width"], generator),
            nn.GELU(),
            pointwise(site, size["width"], channels, None),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return (
            convolution_params(site, channels, channels, groups=channels)
            + pointwise_params(site, channels, width)
            + pointwise_params(site, width, channels)
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return convolution_flops(site, channels, channels, groups=channels) + 2 * pointwise_flops(
            site, channels, width
        )
