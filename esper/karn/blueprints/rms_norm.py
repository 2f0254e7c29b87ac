"""BP012, RMS norm: f(h) = g · h / rms(h) over the channels of each position, g = 0 at the start.

Zhang and Sennrich 2019 (arXiv 1910.07467): a layer norm that neither centres nor shifts.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint, channel_dim
from esper.karn.layers import channel_shape

EPSILON = 1e-5
"""Added to the mean square, so that a position of zeros stays zero."""


class ScaledRmsNorm(nn.Module):
    """f(h) = g · h / rms(h), the root mean square over dim `dim`; g of shape `shape`."""

    def __init__(self, shape: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        mean_square = h.square().mean(self.dim, keepdim=True)
        return self.scale * (h * torch.rsqrt(mean_square + EPSILON))


class RmsNorm(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP012",
        name="RMS norm",
        tier=BlueprintTier.SAFE,
        description="Each position's channels divided by their root mean square, and scaled.",
        risk=0.1,
        stage=2,
    )
    layouts = EVERY_LAYOUT
    tags = ("norm",)
    knob = None

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return ScaledRmsNorm(channel_shape(site), channel_dim(site.layout))

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0
