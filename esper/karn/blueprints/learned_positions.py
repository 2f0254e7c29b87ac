"""BP022, learned positions: f(h) is a learned vector for each position, whatever h is; zero at the start.

Gehring et al. 2017 (arXiv 1705.03122); Vaswani et al. 2017 (arXiv 1706.03762). An image has a vector for each
row and one for each column, added (axial positions, Ho et al. 2019, arXiv 1912.12180), so that its table
stays small.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint


class Positions(nn.Module):
    """f(h) = the sum of the tables, each as wide as one example of h along its own axis and the channels."""

    def __init__(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in shapes)

    def forward(self, h: Tensor) -> Tensor:
        y = torch.zeros_like(h)
        for table in self.tables:
            y = y + table
        return y


class LearnedPositions(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP022",
        name="learned positions",
        tier=BlueprintTier.SAFE,
        description="A learned vector added at each position.",
        risk=0.05,
        stage=2,
    )
    layouts = frozenset((Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS))
    tags = ("positions",)
    knob = None

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Positions(_tables(site))

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return sum(math.prod(shape) for shape in _tables(site))

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0


def _tables(site: SiteInfo) -> tuple[tuple[int, ...], ...]:
    if site.layout is not Layout.IMAGE:
        return (site.shape,)
    channels, rows, columns = site.shape
    return (channels, rows, 1), (channels, 1, columns)
