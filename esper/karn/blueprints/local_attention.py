"""BP028, local window attention: BP023 over the positions at most `radius` away, each with a learned bias.

Sliding windows as in Longformer (Beltagy et al. 2020) and neighbourhood attention (Hassani et al. 2023); the
bias of each relative position as in Swin (Liu et al. 2021). Linear in the positions. Tokens see themselves
and the `radius` tokens before. Not on vectors, which have no neighbours.

Shapes: B batch, N positions, K positions of a window, C channels, D width.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import grid
from esper.karn.blueprint import Blueprint, positions
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.neighbourhood import Neighbourhood, window
from esper.karn.rows import OnRows, calm, drawn, row_map


class WindowAttention(nn.Module):
    """f(x) = back(softmax(q kᵀ / √D + bias) v) over each position's window, for rows (B, N, C)."""

    def __init__(self, site: SiteInfo, radius: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        offsets = window(site, radius)
        self.window = Neighbourhood(grid(site), offsets)
        self.query = row_map(site.channels, width, generator, bias=False)
        self.key = row_map(site.channels, width, generator, bias=False)
        self.value = row_map(site.channels, width, generator, bias=False)
        self.bias_K = drawn((len(offsets),), generator)
        self.back = row_map(width, site.channels, None)

    def weights(self, x_BNC: Tensor) -> Tensor:
        """Who looks at whom in its window, (B, N, K): each row sums to 1, nothing goes outside the grid."""
        calm_BNC = calm(x_BNC)
        q_BN1D, k_BNKD = self.query(calm_BNC).unsqueeze(2), self.window(self.key(calm_BNC))
        scores_BNK: Tensor = (q_BN1D @ k_BNKD.transpose(2, 3)).squeeze(2) / math.sqrt(q_BN1D.shape[3])
        return (scores_BNK + self.bias_K).masked_fill(self.window.outside, -math.inf).softmax(2)

    def forward(self, x_BNC: Tensor) -> Tensor:
        v_BNKD = self.window(self.value(x_BNC))
        mixed_BND = (self.weights(x_BNC).unsqueeze(2) @ v_BNKD).squeeze(2)
        y_BNC: Tensor = self.back(mixed_BND)
        return y_BNC


class LocalAttention(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP028",
        name="local window attention",
        tier=BlueprintTier.SAFE,
        description="Attention over the nearest positions only; over the latest ones for tokens.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 1024),
            "radius": BlueprintParameterBounds(1, 5),
        },
        risk=0.2,
        stage=3,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS})
    tags = ("attention", "local")
    fixed: ClassVar[Mapping[str, float]] = {"radius": 2.0}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(WindowAttention(site, size["radius"], size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        into = 3 * pointwise_params(site, channels, width, bias=False)
        return into + len(window(site, size["radius"])) + pointwise_params(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width, seen = size["width"], len(window(site, size["radius"]))
        return 4 * pointwise_flops(site, site.channels, width) + 4 * positions(site) * seen * width
