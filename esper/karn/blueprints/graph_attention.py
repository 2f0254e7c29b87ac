"""BP029, graph attention: each position takes from its neighbours in a graph, weighted by what both are.

Veličković et al. 2018 (GAT), with the scores of Brody et al. 2022 (GATv2), which can rank neighbours
differently for each position: e_ij = a · leaky(W_here x_i + W_there x_j), softmax over j, sum of W_there x_j.

The graph is the grid: on a sequence each position is linked with the one before and the one after, on an
image with the four beside it, on tokens with the two before; and with itself. Not on vectors, which have one
position.

Shapes: B batch, N positions, K linked with each, H heads, C channels, D width of a head.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import grid
from esper.karn.blueprint import Blueprint
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.neighbourhood import Neighbourhood, links
from esper.karn.rows import OnRows, drawn, row_map

HEADS = 4
SLOPE = 0.2
"""Of the leaky ReLU below zero, as in both papers."""


class GraphSum(nn.Module):
    """f(x) = back(softmax(e) W_there x) over each position's links, for rows (B, N, C)."""

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.links = Neighbourhood(grid(site), links(site, _reach(site)))
        self.here = row_map(site.channels, HEADS * width, generator)
        self.there = row_map(site.channels, HEADS * width, generator, bias=False)
        self.score_HD = drawn((HEADS, width), generator)
        self.back = row_map(HEADS * width, site.channels, None)

    def weights(self, x_BNC: Tensor) -> Tensor:
        """How much each link counts in each head, (B, N, K, H): sums to 1 over K."""
        return self._weights(x_BNC, self._there(x_BNC))

    def forward(self, x_BNC: Tensor) -> Tensor:
        there_BNKHD = self._there(x_BNC)
        mixed_BNHD = (self._weights(x_BNC, there_BNKHD).unsqueeze(4) * there_BNKHD).sum(2)
        y_BNC: Tensor = self.back(mixed_BNHD.flatten(2))
        return y_BNC

    def _there(self, x_BNC: Tensor) -> Tensor:
        linked: Tensor = self.links(self.there(x_BNC))
        return torch.unflatten(linked, 3, (HEADS, -1))

    def _weights(self, x_BNC: Tensor, there_BNKHD: Tensor) -> Tensor:
        here_BN1HD = torch.unflatten(self.here(x_BNC), 2, (HEADS, -1)).unsqueeze(2)
        e_BNKH = (F.leaky_relu(here_BN1HD + there_BNKHD, SLOPE) * self.score_HD).sum(4)
        return e_BNKH.masked_fill(self.links.outside.unsqueeze(2), -math.inf).softmax(2)


class GraphAttention(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP029",
        name="graph attention",
        tier=BlueprintTier.SAFE,
        description="Takes from the neighbours on the grid, weighted by what both are; causal for tokens.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 256)},
        risk=0.22,
        stage=3,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS})
    tags = ("attention", "graph", "local")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(GraphSum(site, size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, inner = site.channels, HEADS * size["width"]
        into = 2 * pointwise_params(site, channels, inner) - inner  # only one of the two has a bias
        return into + inner + pointwise_params(site, inner, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        """Three maps; scores and sums over the links are elementwise."""
        return 3 * pointwise_flops(site, site.channels, HEADS * size["width"])


def _reach(site: SiteInfo) -> int:
    return 2 if site.layout is Layout.TOKENS else 1
