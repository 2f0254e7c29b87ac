"""BP032, feature pyramid: halved `levels` times, then brought together again from the coarsest to the finest.

Lin et al. 2017. On the way down each level is the one above, halved by means, through a kernel-3 convolution;
on the way up each level is its own pointwise map plus the coarser one, repeated to its size. Odd sizes are
halved upwards (7, 4, 2, 1), so that every size works, even 1. Sequences and images only: a coarse vector or
token would mix features without order, or show what comes later.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class Pyramid(nn.Module):
    """f(h) = back(gelu(finest level)); h is (B, C, L) or (B, C, H, W)."""

    def __init__(self, site: SiteInfo, levels: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.into = pointwise(site, site.channels, width, generator)
        self.down = nn.ModuleList(convolution(site, width, width, generator) for _ in range(levels))
        self.across = nn.ModuleList(pointwise(site, width, width, generator) for _ in range(levels + 1))
        self.back = pointwise(site, width, site.channels, None)

    def forward(self, h: Tensor) -> Tensor:
        fine_to_coarse = self.levels(h)
        y = self.across[-1](fine_to_coarse[-1])
        for level, across in zip(fine_to_coarse[-2::-1], list(self.across)[-2::-1], strict=True):
            y = across(level) + F.interpolate(y, size=level.shape[2:], mode="nearest")
        z: Tensor = self.back(F.gelu(y))
        return z

    def levels(self, h: Tensor) -> list[Tensor]:
        """What is seen at each scale on the way down, (B, width, ...), the finest first."""
        found: list[Tensor] = [self.into(h)]
        for down in self.down:
            found.append(F.gelu(down(_halved(found[-1]))))
        return found


class FeaturePyramid(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP032",
        name="feature pyramid",
        tier=BlueprintTier.SAFE,
        description="Coarser and coarser views, brought together again from the coarsest to the finest.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 1024),
            "levels": BlueprintParameterBounds(1, 4),
        },
        risk=0.2,
        stage=3,
    )
    layouts = SPATIAL
    tags = ("convolution", "multi-scale")
    fixed: ClassVar[Mapping[str, float]] = {"levels": 2.0}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Pyramid(site, size["levels"], size["width"], generator)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width, levels = site.channels, size["width"], size["levels"]
        return (
            pointwise_params(site, channels, width)
            + levels * convolution_params(site, width, width)
            + (levels + 1) * pointwise_params(site, width, width)
            + pointwise_params(site, width, channels)
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width = size["width"]
        finest, *coarser = scales(site, size["levels"])
        return (
            2 * pointwise_flops(finest, site.channels, width)
            + sum(convolution_flops(level, width, width) for level in coarser)
            + sum(pointwise_flops(level, width, width) for level in (finest, *coarser))
        )


def scales(site: SiteInfo, levels: int) -> Iterator[SiteInfo]:
    """The site itself, then as it is after each halving."""
    yield site
    for _ in range(levels):
        halves = tuple((side + 1) // 2 for side in site.shape[1:])
        site = msgspec.structs.replace(site, shape=(site.shape[0], *halves))
        yield site


def _halved(y: Tensor) -> Tensor:
    """Means of tiles of 2 (or 2 · 2), a last odd one by itself."""
    pool = F.avg_pool1d if y.dim() == 3 else F.avg_pool2d
    return pool(y, 2, ceil_mode=True)
