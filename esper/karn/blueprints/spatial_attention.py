"""BP017, spatial attention: each position rescaled by its neighbourhood's mean and largest channel.

The spatial half of CBAM, Woo et al. 2018 (arXiv 1807.06521), with its kernel of 7. Neutral at the start as
h · 2σ(0), from a convolution of zeros.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.layers import SPATIAL, Layer, convolution, convolution_flops, convolution_params

WINDOW = 7
SUMMARIES = 2
"""Mean and maximum over the channels."""


class SpatialGate(nn.Module):
    """f(h) = h · (2σ(z) - 1), z (B, 1, ...) a convolution of the channels' mean and maximum."""

    def __init__(self, look: Layer) -> None:
        super().__init__()
        self.look = look

    def forward(self, h: Tensor) -> Tensor:
        summary = torch.cat((h.mean(1, keepdim=True), h.amax(1, keepdim=True)), dim=1)
        return h * (2 * torch.sigmoid(self.look(summary)) - 1)


class SpatialAttention(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP017",
        name="spatial attention",
        tier=BlueprintTier.SAFE,
        description="Each position rescaled by a function of its neighbourhood.",
        risk=0.08,
        stage=2,
    )
    layouts = SPATIAL
    tags = ("attention", "gate", "spatial")
    knob = None

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return SpatialGate(convolution(site, SUMMARIES, 1, None, kernel=WINDOW))

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return convolution_params(site, SUMMARIES, 1, kernel=WINDOW)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return convolution_flops(site, SUMMARIES, 1, kernel=WINDOW)
