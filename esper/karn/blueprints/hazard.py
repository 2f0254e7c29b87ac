"""What the high-risk blueprints share: a bottleneck that behaves like any other until its `onset`.

They exist to prove the safety checks, and are germinated in drills alone. Importing, listing, describing and
building one is harmless; it misbehaves in its own passes only.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.layers import Layer, pointwise, pointwise_flops, pointwise_params

ONSET_MAX = 1_000_000
"""The latest onset, and the one that `fit` gives: further than any run trains a seed."""
STAGE = 5
"""Curriculum stage of what is grown in drills alone."""


class Hazard(nn.Module):
    """f(h) = back(gelu(into(h))), misbehaving once it has run `onset` forward passes in training mode.

    From then on it misbehaves in every mode. A copy goes on counting where the original is.
    """

    def __init__(self, into: Layer, back: Layer, onset: int) -> None:
        super().__init__()
        self.into, self.back = into, back
        self.onset = onset
        self.passes = 0
        """Forward passes in training mode so far."""

    @property
    def awake(self) -> bool:
        """It misbehaves now."""
        return self.passes > self.onset

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        y: Tensor = self.back(F.gelu(self.into(h)))
        return self.misbehave(h, y) if self.awake else y

    @abstractmethod
    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        """What comes in the place of y, both (B, *site.shape)."""


class HazardBlueprint(Blueprint):
    """One way to misbehave; `module` does it."""

    module: ClassVar[type[Hazard]]
    layouts = EVERY_LAYOUT
    fixed: ClassVar[Mapping[str, float]] = {"onset": float(ONSET_MAX)}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        into = pointwise(site, site.channels, size["width"], generator)
        back = pointwise(site, size["width"], site.channels, None)
        return self.module(into, back, size["onset"])

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return pointwise_params(site, channels, width) + pointwise_params(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        """Of one that behaves."""
        return 2 * pointwise_flops(site, site.channels, size["width"])


def describe(number: int, name: str, description: str, risk: float) -> BlueprintDescriptor:
    """The descriptor of the high-risk blueprint `number`; `risk` is 0.9 to 1."""
    return BlueprintDescriptor(
        blueprint_id=f"BP{number:03}",
        name=name,
        tier=BlueprintTier.HIGH_RISK,
        description=description,
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 4096),
            "onset": BlueprintParameterBounds(0, ONSET_MAX),
        },
        risk=risk,
        stage=STAGE,
        quarantine_only=True,
    )
