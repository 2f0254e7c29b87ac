"""BP018, grouped convolution: `groups` groups of `width` channels, each convolved apart.

The branch of a ResNeXt block, Xie et al. 2017 (arXiv 1611.05431), without its batch normalisation.
"""

from collections.abc import Mapping
from typing import ClassVar

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


class GroupedConvolution(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP018",
        name="grouped convolution",
        tier=BlueprintTier.SAFE,
        description="A kernel-3 convolution in groups of channels, between two pointwise maps.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 1024),  # of one group
            "groups": BlueprintParameterBounds(1, 64),
        },
        risk=0.12,
        stage=2,
    )
    layouts = SPATIAL
    tags = ("convolution", "grouped")
    fixed: ClassVar[Mapping[str, float]] = {"groups": 4.0}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        groups, hidden = size["groups"], size["groups"] * size["width"]
        return nn.Sequential(
            pointwise(site, site.channels, hidden, generator),
            nn.GELU(),
            convolution(site, hidden, hidden, generator, groups=groups),
            nn.GELU(),
            pointwise(site, hidden, site.channels, None),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        groups, hidden = size["groups"], size["groups"] * size["width"]
        return (
            pointwise_params(site, site.channels, hidden)
            + convolution_params(site, hidden, hidden, groups=groups)
            + pointwise_params(site, hidden, site.channels)
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        groups, hidden = size["groups"], size["groups"] * size["width"]
        maps = 2 * pointwise_flops(site, site.channels, hidden)
        return maps + convolution_flops(site, hidden, hidden, groups=groups)
