"""BP033, dense connections: `layers` layers, each of which sees the input and all layers before it.

Huang et al. 2017 (DenseNet), without its batch normalisation; `width` is the growth rate. Kernel-3
convolutions on sequences and images, maps at each position on vectors and tokens.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class DenseLayers(nn.Module):
    """f(h) = back(y_1, ..., y_n), y_i = gelu(layer_i(h, y_1, ..., y_i-1))."""

    def __init__(self, site: SiteInfo, layers: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        make = convolution if site.layout in SPATIAL else pointwise
        self.channel_dim = channel_dim(site.layout)
        self.layers = nn.ModuleList(
            make(site, fan_in, width, generator) for fan_in in _fans(site, layers, width)
        )
        self.back = pointwise(site, layers * width, site.channels, None)

    def forward(self, h: Tensor) -> Tensor:
        seen = [h]
        for layer in self.layers:
            seen.append(F.gelu(layer(torch.cat(seen, self.channel_dim))))
        z: Tensor = self.back(torch.cat(seen[1:], self.channel_dim))
        return z


class DenseConnections(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP033",
        name="dense connections",
        tier=BlueprintTier.SAFE,
        description="A few layers, each of which sees the input and all layers before it.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 512),
            "layers": BlueprintParameterBounds(2, 6),
        },
        risk=0.18,
        stage=3,
    )
    layouts = EVERY_LAYOUT
    tags = ("block", "convolution", "deep")
    fixed: ClassVar[Mapping[str, float]] = {"layers": 3.0}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return DenseLayers(site, size["layers"], size["width"], generator)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        layers, width = size["layers"], size["width"]
        count = convolution_params if site.layout in SPATIAL else pointwise_params
        back = pointwise_params(site, layers * width, site.channels)
        return sum(count(site, fan_in, width) for fan_in in _fans(site, layers, width)) + back

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        layers, width = size["layers"], size["width"]
        count = convolution_flops if site.layout in SPATIAL else pointwise_flops
        back = pointwise_flops(site, layers * width, site.channels)
        return sum(count(site, fan_in, width) for fan_in in _fans(site, layers, width)) + back


def _fans(site: SiteInfo, layers: int, width: int) -> Iterator[int]:
    """How many channels each layer sees."""
    return (site.channels + before * width for before in range(layers))
