"""BP001, identity: a scale a channel, h + g · h with g = 0 at the start."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint


class ChannelScale(nn.Module):
    """f(h) = g · h, one g a channel; h is (B, C, ...), or (B, T, C) with `channels_last`."""

    def __init__(self, channels: int, *, channels_last: bool, spatial: int) -> None:
        super().__init__()
        shape = (channels,) if channels_last else (channels, *(1 for _ in range(spatial)))
        self.scale = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        return self.scale * h


class Identity(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP001",
        name="identity",
        tier=BlueprintTier.SAFE,
        description="A learned scale for each channel, the identity at the start.",
        risk=0.02,
        stage=1,
    )
    layouts = EVERY_LAYOUT
    tags: ClassVar[tuple[str, ...]] = ("scale",)
    knob = None

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return ChannelScale(
            site.channels, channels_last=site.layout is Layout.TOKENS, spatial=len(site.shape) - 1
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0
