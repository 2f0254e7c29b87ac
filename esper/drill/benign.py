"""Harmless blueprints that look dangerous: the checks must let them through."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.layers import Layer, pointwise, pointwise_flops, pointwise_params

LOUD = 30.0
"""Initial weights are so many times as large as others'."""
DROPPED = 0.3


class LoudModule(nn.Module):
    """f(h) = back(tanh(into(h))) with large weights on the way in: saturated, far above the host's norms."""

    def __init__(self, into: Layer, back: Layer) -> None:
        super().__init__()
        self.into, self.back = into, back
        with torch.no_grad():
            for parameter in into.parameters():
                parameter.mul_(LOUD)

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = self.back(torch.tanh(self.into(h)))
        return y


class NoisyModule(nn.Module):
    """f(h) = back(dropout(gelu(into(h)))): other numbers at every step, from torch's stream as is proper."""

    def __init__(self, into: Layer, back: Layer) -> None:
        super().__init__()
        self.into, self.back = into, back

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = self.back(F.dropout(F.gelu(self.into(h)), DROPPED, self.training))
        return y


class _Bottleneck(Blueprint):
    layouts = EVERY_LAYOUT

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return pointwise_params(site, channels, width) + pointwise_params(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 2 * pointwise_flops(site, site.channels, size["width"])


def _described(blueprint_id: str, name: str, description: str) -> BlueprintDescriptor:
    return BlueprintDescriptor(
        blueprint_id=blueprint_id,
        name=name,
        tier=BlueprintTier.SAFE,
        description=description,
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.3,
        stage=5,
    )


class Loud(_Bottleneck):
    descriptor = _described("DRILL-LOUD", "loud perceptron", "Starts with weights thirty times too large.")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return LoudModule(
            pointwise(site, site.channels, size["width"], generator),
            pointwise(site, size["width"], site.channels, None),
        )


class Noisy(_Bottleneck):
    descriptor = _described("DRILL-NOISY", "noisy perceptron", "Drops three of ten of its values at random.")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return NoisyModule(
            pointwise(site, site.channels, size["width"], generator),
            pointwise(site, size["width"], site.channels, None),
        )


DRILL_CATALOGUE = Catalogue((*CATALOGUE, Loud(), Noisy()))
"""What drills choose from: everything there is, and these two."""
