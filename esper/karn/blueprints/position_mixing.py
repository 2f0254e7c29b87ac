"""BP035, position mixing: one half of the channels gates the other with learned sums over the positions.

The spatial gating unit of Liu et al. 2021 ("Pay attention to MLPs"), y = u · (1 + mix(calm(v))); mixing by
weights of the places alone is the MLP-mixer's (Tolstikhin et al. 2021). A sequence has a weight for each pair
of positions; an image one for each pair of rows and each pair of columns, one after the other; tokens one for
each distance back, so that none sees a later one. The weights belong to the site's size. Not on vectors,
which have one position.

Shapes: B batch, N positions, C channels, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import grid
from esper.karn.blueprint import Blueprint, positions
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.rows import OnRows, calm, drawn, row_map

SIDE_MAX = 1024
"""A million weights."""


class AxisMixing(nn.Module):
    """Rows (B, N, D) mixed along each dimension of the grid, one square matrix a dimension."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        self.axes = nn.ParameterList(drawn((side, side), generator) for side in shape)

    def forward(self, v_BND: Tensor) -> Tensor:
        v = torch.unflatten(v_BND, 1, self.shape)
        for dim, weights in enumerate(self.axes, 1):
            v = (v.transpose(dim, -1) @ weights.T).transpose(dim, -1)
        return v.flatten(1, -2)


class PastMixing(nn.Module):
    """Rows (B, T, D): each the sum of the earlier ones and itself, by a weight for each distance back."""

    def __init__(self, tokens: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_T = drawn((tokens,), generator)

    def forward(self, v_BTD: Tensor) -> Tensor:
        return self._weights() @ v_BTD

    def _weights(self) -> Tensor:
        """weight[t - s] at (t, s), 0 where s is later.

        A line of 2 T is repeated and read 2 T - 1 at a time, so that each row begins one place earlier in it
        than the row before. Looking the weights up would add their gradients in no fixed order.
        """
        tokens = len(self.weight_T)
        now, before = self.weight_T[:1], self.weight_T[1:].flip(0)
        line = torch.cat((now, now.new_zeros(tokens), before))
        lines = line.expand(tokens, -1).flatten()[: tokens * (2 * tokens - 1)]
        return torch.unflatten(lines, 0, (tokens, 2 * tokens - 1))[:, :tokens]


class SpatialGating(nn.Module):
    """f(x) = back(u · (1 + mix(calm(v)))), u and v the halves of gelu(into(calm(x))), for rows (B, N, C)."""

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.into = row_map(site.channels, 2 * width, generator)
        self.mix: nn.Module
        if site.layout is Layout.TOKENS:
            self.mix = PastMixing(positions(site), generator)
        else:
            self.mix = AxisMixing(grid(site), generator)
        self.back = row_map(width, site.channels, None)

    def forward(self, x_BNC: Tensor) -> Tensor:
        u_BND, v_BND = F.gelu(self.into(calm(x_BNC))).chunk(2, dim=2)
        y_BNC: Tensor = self.back(u_BND * (1 + self.mix(calm(v_BND))))
        return y_BNC


class PositionMixing(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP035",
        name="position mixing",
        tier=BlueprintTier.SAFE,
        description="Channels gated by learned sums over the positions; over earlier ones only for tokens.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 1024)},
        risk=0.2,
        stage=3,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS})
    tags = ("gate", "global", "mixing")

    def refusal(self, site: SiteInfo) -> str:
        longest = max(grid(site))
        if longest <= SIDE_MAX:
            return ""
        return f"has weights for at most {SIDE_MAX} positions a side; {site.shape} has {longest}"

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(SpatialGating(site, size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        tokens = site.layout is Layout.TOKENS
        weights = positions(site) if tokens else sum(side * side for side in grid(site))
        return pointwise_params(site, channels, 2 * width) + pointwise_params(site, width, channels) + weights

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width = size["width"]
        mixing = 2 * positions(site) * width * sum(grid(site))
        return 3 * pointwise_flops(site, site.channels, width) + mixing
