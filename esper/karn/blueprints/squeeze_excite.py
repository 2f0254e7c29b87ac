"""BP007, squeeze-excite: each channel rescaled by what the whole input looks like.

Hu et al. 2018. Neutral at the start as h · 2σ(0): f(h) = h · (2σ(z) - 1) with z = 0 from a last layer of
zeros. On tokens the mean over positions would tell a decoder what comes next, so it does not grow there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.layers import SPATIAL, dense, pointwise_params


class Excite(nn.Module):
    """f(h) = h · (2σ(z) - 1), z = W2 relu(W1 mean(h)); h is (B, C, L) or (B, C, H, W)."""

    def __init__(self, squeeze: nn.Linear, excite: nn.Linear) -> None:
        super().__init__()
        self.squeeze, self.excite = squeeze, excite

    def forward(self, h: Tensor) -> Tensor:
        z_BC = self.excite(torch.relu(self.squeeze(h.flatten(2).mean(2))))
        gate_BC = 2 * torch.sigmoid(z_BC) - 1
        return h * gate_BC.reshape(*gate_BC.shape, *(1,) * (h.dim() - 2))


class SqueezeExcite(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP007",
        name="squeeze-excite",
        tier=BlueprintTier.SAFE,
        description="Each channel rescaled by a function of all channels' means.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.05,
        stage=1,
    )
    layouts = SPATIAL
    tags = ("attention", "channel", "gate")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Excite(
            dense(site.channels, size["width"], generator),
            dense(size["width"], site.channels, None),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return pointwise_params(site, site.channels, size["width"]) + pointwise_params(
            site, size["width"], site.channels
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 4 * site.channels * size["width"]
