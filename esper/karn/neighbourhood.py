"""Neighbourhoods: for each position of a site, the rows at fixed offsets from it.

Made of shifted copies, so that nothing is scattered on the way back and gradients are the same on every run.

Shapes: B batch, N positions, K neighbours, D channels.
"""

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.growth import Layout, SiteInfo
from esper.karn.attention import grid

Offset = tuple[int, ...]
"""Steps along each dimension of the grid."""


class Neighbourhood(nn.Module):
    """Rows (B, N, D) to their neighbours' (B, N, K, D); zero where one is `outside` (N, K) the grid."""

    outside: Tensor

    def __init__(self, shape: tuple[int, ...], offsets: tuple[Offset, ...]) -> None:
        super().__init__()
        self.shape, self.offsets = shape, offsets
        inside_1N1 = torch.ones(1, torch.Size(shape).numel(), 1)
        self.register_buffer("outside", self.forward(inside_1N1)[0, :, :, 0] == 0, persistent=False)

    def forward(self, x_BND: Tensor) -> Tensor:
        reach = max(abs(step) for offset in self.offsets for step in offset)
        sides = (reach, reach) * len(self.shape)
        padded = F.pad(torch.unflatten(x_BND, 1, self.shape), (0, 0, *sides))
        return torch.stack([self._shifted(padded, reach, offset) for offset in self.offsets], 2)

    def _shifted(self, padded: Tensor, reach: int, offset: Offset) -> Tensor:
        for dim, (size, step) in enumerate(zip(self.shape, offset, strict=True), 1):
            padded = padded.narrow(dim, reach + step, size)
        return padded.flatten(1, -2)


def window(site: SiteInfo, radius: int) -> tuple[Offset, ...]:
    """All offsets up to `radius` along each dimension; for tokens none that looks ahead."""
    ahead = 0 if site.layout is Layout.TOKENS else radius
    return tuple(product(range(-radius, ahead + 1), repeat=len(grid(site))))


def links(site: SiteInfo, reach: int) -> tuple[Offset, ...]:
    """Itself and what lies up to `reach` along one dimension at a time; for tokens none that looks ahead."""
    return tuple(offset for offset in window(site, reach) if sum(step != 0 for step in offset) <= 1)
