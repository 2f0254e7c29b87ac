"""BP010, layer scale: a two-layer perceptron whose output is scaled a channel at a time, f(h) = λ · g(h).

LayerScale of Touvron et al. 2021 (CaiT, arXiv 2103.17239), with λ starting at 0 instead of a small number.
Unlike BP008 the perceptron's last layer is drawn, not zero: what is learned first is which channels to use.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.layers import channel_shape, pointwise, pointwise_flops, pointwise_params


class ScaledBranch(nn.Module):
    """f(h) = λ · branch(h), one λ a channel, 0 at the start."""

    def __init__(self, branch: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.branch = branch
        self.scale = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = self.scale * self.branch(h)
        return y


class LayerScale(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP010",
        name="layer scale",
        tier=BlueprintTier.SAFE,
        description="A two-layer perceptron at each position, its output scaled by one number a channel.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.08,
        stage=2,
    )
    layouts = EVERY_LAYOUT
    tags = ("map", "scale")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        branch = nn.Sequential(
            pointwise(site, site.channels, size["width"], generator),
            nn.GELU(),
            pointwise(site, size["width"], site.channels, generator),
        )
        return ScaledBranch(branch, channel_shape(site))

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        there = pointwise_params(site, site.channels, size["width"])
        back = pointwise_params(site, size["width"], site.channels)
        return there + back + site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * pointwise_flops(site, site.channels, size["width"])
