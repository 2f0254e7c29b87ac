"""BP016, channel attention: each channel rescaled by what all channels' means and maxima look like.

The channel half of CBAM, Woo et al. 2018 (arXiv 1807.06521): one perceptron for both the mean and the maximum
over positions, summed. Neutral at the start as h · 2σ(0), as BP007. It looks at all positions, so it does
not grow on tokens.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.layers import SPATIAL, dense, pointwise_params


class ChannelGate(nn.Module):
    """f(h) = h · (2σ(z) - 1), z = g(mean(h)) + g(max(h)), g(x) = W2 relu(W1 x); h is (B, C, ...)."""

    def __init__(self, squeeze: nn.Linear, excite: nn.Linear) -> None:
        super().__init__()
        self.squeeze, self.excite = squeeze, excite

    def forward(self, h: Tensor) -> Tensor:
        flat_BCP = h.flatten(2)
        z_BC = self._score(flat_BCP.mean(2)) + self._score(flat_BCP.amax(2))
        gate_BC = 2 * torch.sigmoid(z_BC) - 1
        return h * gate_BC.reshape(*gate_BC.shape, *(1,) * (h.dim() - 2))

    def _score(self, pooled_BC: Tensor) -> Tensor:
        z_BC: Tensor = self.excite(torch.relu(self.squeeze(pooled_BC)))
        return z_BC


class ChannelAttention(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP016",
        name="channel attention",
        tier=BlueprintTier.SAFE,
        description="Each channel rescaled by a function of all channels' means and maxima.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.08,
        stage=2,
    )
    layouts = SPATIAL
    tags = ("attention", "channel", "gate")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return ChannelGate(
            dense(site.channels, size["width"], generator), dense(size["width"], site.channels, None)
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return pointwise_params(site, site.channels, size["width"]) + pointwise_params(
            site, size["width"], site.channels
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 8 * site.channels * size["width"]
