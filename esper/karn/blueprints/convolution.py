"""BP004, convolution: kernel 3 to `width` channels, GELU, kernel 3 back (the branch of a residual block).

He et al. 2016, without its batch normalisation: a seed keeps no running statistics.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.layers import SPATIAL, convolution, convolution_flops, convolution_params


class Convolution(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP004",
        name="convolution",
        tier=BlueprintTier.SAFE,
        description="Two kernel-3 convolutions, to a few channels and back.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.1,
        stage=1,
    )
    layouts = SPATIAL
    tags: ClassVar[tuple[str, ...]] = ("convolution",)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        width, dilation = size["width"], size.get("dilation", 1)
        return nn.Sequential(
            convolution(site, site.channels, width, generator, dilation=dilation),
            nn.GELU(),
            convolution(site, width, site.channels, None, dilation=dilation),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return convolution_params(site, channels, width) + convolution_params(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * convolution_flops(site, site.channels, size["width"])
