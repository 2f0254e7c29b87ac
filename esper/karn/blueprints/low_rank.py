"""BP002, low-rank map: f(h) = U V h with V to `rank` channels and U back, as LoRA (Hu et al. 2021)."""

from collections.abc import Mapping

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.layers import pointwise, pointwise_flops, pointwise_params


class LowRank(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP002",
        name="low-rank map",
        tier=BlueprintTier.SAFE,
        description="A linear map of the channels through a few dimensions.",
        allowed_parameters={"rank": BlueprintParameterBounds(1, 4096)},
        risk=0.05,
        stage=1,
    )
    layouts = EVERY_LAYOUT
    tags = ("linear", "low-rank")
    knob = "rank"

    def largest(self, site: SiteInfo) -> int:
        """More rank than channels adds parameters and no function."""
        return min(super().largest(site), site.channels)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return nn.Sequential(
            pointwise(site, site.channels, size["rank"], generator, bias=False),
            pointwise(site, size["rank"], site.channels, None, bias=False),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * pointwise_params(site, site.channels, size["rank"], bias=False)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * pointwise_flops(site, site.channels, size["rank"])
