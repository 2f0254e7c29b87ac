"""BP015, highway: f(h) = λ · T(h) · (H(h) - h), a transform H let through by a learned gate T.

Srivastava et al. 2015 (arXiv 1505.00387): y = T · H + (1 - T) · h is h + T · (H - h). With λ = 1 in each
channel this is the paper's layer; λ starts at 0. The gate's bias starts at -1, mostly closed, as there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.layers import Layer, channel_shape, pointwise, pointwise_flops, pointwise_params

GATE_BIAS = -1.0


class HighwayLayer(nn.Module):
    """f(h) = λ · σ(gate(h)) · (relu(transform(h)) - h), at each position apart."""

    def __init__(self, transform: Layer, gate: Layer, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.transform, self.gate = transform, gate
        self.scale = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        opened = torch.sigmoid(self.gate(h))
        return self.scale * opened * (torch.relu(self.transform(h)) - h)


class Highway(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP015",
        name="highway",
        tier=BlueprintTier.SAFE,
        description="A gate that mixes each position with a transform of it.",
        risk=0.1,
        stage=2,
    )
    layouts = EVERY_LAYOUT
    tags = ("gate", "map")
    knob = None

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        transform = pointwise(site, site.channels, site.channels, generator)
        gate = pointwise(site, site.channels, site.channels, generator)
        assert gate.bias is not None
        nn.init.constant_(gate.bias, GATE_BIAS)
        return HighwayLayer(transform, gate, channel_shape(site))

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * pointwise_params(site, site.channels, site.channels) + site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * pointwise_flops(site, site.channels, site.channels)
