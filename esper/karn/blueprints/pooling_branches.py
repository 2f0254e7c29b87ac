"""BP034, pooling branches: a map, a convolution, the mean and the largest of the neighbours, side by side.

The inception module of Szegedy et al. 2015, with a mean beside its maximum. Each branch has `width` channels;
a pointwise map brings them together. Sequences and images only: the others have no neighbours to pool.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.layers import (
    KERNEL,
    SPATIAL,
    convolution,
    convolution_flops,
    convolution_params,
    pointwise,
    pointwise_flops,
    pointwise_params,
)

BRANCHES = 4


class Branches(nn.Module):
    """f(h) = back(gelu(here(h), near(squeeze(h)), mean(h), largest(h))); h is (B, C, L) or (B, C, H, W)."""

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        channels = site.channels
        self.here = pointwise(site, channels, width, generator)
        self.squeeze = pointwise(site, channels, width, generator)
        self.near = convolution(site, width, width, generator)
        self.mean = pointwise(site, channels, width, generator)
        self.largest = pointwise(site, channels, width, generator)
        self.back = pointwise(site, BRANCHES * width, channels, None)

    def forward(self, h: Tensor) -> Tensor:
        z: Tensor = self.back(F.gelu(torch.cat(self.branches(h), 1)))
        return z

    def branches(self, h: Tensor) -> list[Tensor]:
        """What each branch sees, (B, width, ...)."""
        return [
            self.here(h),
            self.near(F.gelu(self.squeeze(h))),
            self.mean(mean_near(h)),
            self.largest(largest_near(h)),
        ]


class PoolingBranches(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP034",
        name="pooling branches",
        tier=BlueprintTier.SAFE,
        description="A map, a convolution, a mean and a maximum of the neighbours, side by side.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 1024)},
        risk=0.15,
        stage=2,
    )
    layouts = SPATIAL
    tags = ("convolution", "multi-scale", "pooling")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Branches(site, size["width"], generator)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return (
            BRANCHES * pointwise_params(site, channels, width)
            + convolution_params(site, width, width)
            + pointwise_params(site, BRANCHES * width, channels)
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return 2 * BRANCHES * pointwise_flops(site, channels, width) + convolution_flops(site, width, width)


def mean_near(h: Tensor) -> Tensor:
    """The mean over each position and its neighbours inside the grid, of h's own shape."""
    pool = F.avg_pool1d if h.dim() == 3 else F.avg_pool2d
    return pool(h, KERNEL, stride=1, padding=KERNEL // 2, count_include_pad=False)


def largest_near(h: Tensor) -> Tensor:
    """The largest value at each position and its neighbours, in each channel apart."""
    pool = F.max_pool1d if h.dim() == 3 else F.max_pool2d
    return pool(h, KERNEL, stride=1, padding=KERNEL // 2)
