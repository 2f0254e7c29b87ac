"""BP008, bottleneck: pointwise to `width`, GELU, pointwise back (adapters, Houlsby et al. 2019)."""

from collections.abc import Mapping

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.layers import pointwise, pointwise_flops, pointwise_params


class Bottleneck(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP008",
        name="bottleneck",
        tier=BlueprintTier.SAFE,
        description="A two-layer perceptron at each position.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.08,
        stage=1,
    )
    layouts = EVERY_LAYOUT
    tags = ("map",)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return nn.Sequential(
            pointwise(site, site.channels, size["width"], generator),
            nn.GELU(),
            pointwise(site, size["width"], site.channels, None),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return pointwise_params(site, site.channels, size["width"]) + pointwise_params(
            site, size["width"], site.channels
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * pointwise_flops(site, site.channels, size["width"])
