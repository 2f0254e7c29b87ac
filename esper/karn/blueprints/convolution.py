"""BP004, convolution: kernel 3 to `width` channels, ReLU, then pointwise back."""

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


class Convolution(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP004",
        name="convolution",
        tier=BlueprintTier.SAFE,
        description="A kernel-3 convolution to a few channels, ReLU, then pointwise back.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.1,
    )
    layouts = SPATIAL

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return nn.Sequential(
            convolution(site, site.channels, size["width"], generator, dilation=size.get("dilation", 1)),
            nn.ReLU(),
            pointwise(site, size["width"], site.channels, None),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width = size["width"]
        return convolution_params(site, site.channels, width) + pointwise_params(width, site.channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width = size["width"]
        return convolution_flops(site, site.channels, width) + pointwise_flops(site, width, site.channels)
