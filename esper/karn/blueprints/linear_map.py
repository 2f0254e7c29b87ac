"""BP009, linear map: f(h) = W h + b at each position, of full rank.

The series residual adapter of Rebuffi et al. 2017 (arXiv 1705.08045), without its batch normalisation.
"""

from collections.abc import Mapping

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.layers import pointwise, pointwise_flops, pointwise_params


class LinearMap(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP009",
        name="linear map",
        tier=BlueprintTier.SAFE,
        description="A linear map of the channels at each position.",
        risk=0.05,
        stage=2,
    )
    layouts = EVERY_LAYOUT
    tags = ("linear",)
    knob = None

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return pointwise(site, site.channels, site.channels, None)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return pointwise_params(site, site.channels, site.channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return pointwise_flops(site, site.channels, site.channels)
