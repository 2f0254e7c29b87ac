"""Multi-head attention over the positions of a site, and what it costs.

Vaswani et al. 2017, "Attention is all you need". Queries and keys come from calmed rows (see
`esper.karn.rows.calm`), values from the rows as they are. The heads have a width of their own, so that any
number of channels will do. Each head subtracts its own slope times the distance from the scores (ALiBi, Press
et al. 2022; here the slopes learn): the first heads look nearby, the last far. Products are written out, as
the cost formulas count them.

Tokens see themselves and earlier ones only. On sequences and images with more than `KEYS_MAX` positions,
keys and values are means over tiles (Wang et al. 2021, pyramid vision transformer), which keeps the cost
linear in the positions.

Shapes: B batch, H heads, N positions that ask, M positions that answer, C channels, D width of a head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import positions
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.rows import calm, row_map

KEYS_MAX = 256
"""Positions that answer, on sequences and images."""
POSITIONS_MAX = 4096
"""Positions that may ask, on sequences and images: 64 · 64."""
TOKENS_MAX = 1024
SLOPE_LOG2 = 8.0
"""The flattest head's slope is 2 to minus this."""


class Attention(nn.Module):
    """f(x) = back(softmax(q kᵀ / √D - slope · distance) v) for rows (B, N, C); 0 at the start."""

    distance: Tensor
    later: Tensor
    slope: Tensor

    def __init__(self, site: SiteInfo, heads: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, inner = site.channels, heads * width
        self.heads, self.pool = heads, Pool(site)
        self.query = row_map(channels, inner, generator, bias=False)
        self.key = row_map(channels, inner, generator, bias=False)
        self.value = row_map(channels, inner, generator, bias=False)
        self.back = row_map(inner, channels, None)
        self.steeper_H11 = nn.Parameter(torch.zeros(heads, 1, 1))
        """Logarithm of what each head's slope is multiplied by."""
        self.register_buffer("slope", slopes(heads), persistent=False)
        self.register_buffer("distance", distances(site), persistent=False)
        self.register_buffer("later", later(site), persistent=False)

    def weights(self, x_BNC: Tensor) -> Tensor:
        """Who looks at whom, (B, H, N, M): each row sums to 1."""
        q_BHND = self._split(self.query(calm(x_BNC)))
        k_BHMD = self._split(self.key(calm(self.pool(x_BNC))))
        scores_BHNM = q_BHND @ k_BHMD.transpose(2, 3) / math.sqrt(q_BHND.shape[3])
        scores_BHNM = scores_BHNM - self.slope * self.steeper_H11.exp() * self.distance
        return scores_BHNM.masked_fill(self.later, -math.inf).softmax(3)

    def forward(self, x_BNC: Tensor) -> Tensor:
        v_BHMD = self._split(self.value(self.pool(x_BNC)))
        mixed_BHND = self.weights(x_BNC) @ v_BHMD
        y_BNC: Tensor = self.back(mixed_BHND.transpose(1, 2).flatten(2))
        return y_BNC

    def _split(self, x_BNI: Tensor) -> Tensor:
        return torch.unflatten(x_BNI, 2, (self.heads, -1)).transpose(1, 2)


class Pool(nn.Module):
    """Rows (B, N, C) to the M rows that answer: means over the tiles of `tile`, or the rows themselves."""

    def __init__(self, site: SiteInfo) -> None:
        super().__init__()
        self.shape, self.tile = grid(site), tile(site)

    def forward(self, x_BNC: Tensor) -> Tensor:
        if self.tile == 1:
            return x_BNC
        x_BC = torch.unflatten(x_BNC.transpose(1, 2), 2, self.shape)
        if len(self.shape) == 1:
            pooled = F.avg_pool1d(x_BC, self.tile, ceil_mode=True)
            return pooled.transpose(1, 2)
        pooled = F.avg_pool2d(x_BC, self.tile, ceil_mode=True)
        return pooled.flatten(2).transpose(1, 2)


def grid(site: SiteInfo) -> tuple[int, ...]:
    """The sizes of the site's positions: (), (L,), (H, W) or (T,)."""
    return site.shape[:-1] if site.layout is Layout.TOKENS else site.shape[1:]


def tile(site: SiteInfo) -> int:
    """Side of the tiles whose means answer: 1 for tokens, else the least that leaves `KEYS_MAX`."""
    side = 1
    while site.layout is not Layout.TOKENS and _tiles(site, side) > KEYS_MAX:
        side += 1
    return side


def keys(site: SiteInfo) -> int:
    """How many positions answer."""
    return _tiles(site, tile(site))


def slopes(heads: int) -> Tensor:
    """Each head's slope at the start, (H, 1, 1): 2^(-8 h / H) for h from 1, as ALiBi."""
    order = torch.arange(1, heads + 1, dtype=torch.float32)
    return torch.exp2(-SLOPE_LOG2 * order / heads).reshape(heads, 1, 1)


def distances(site: SiteInfo) -> Tensor:
    """Euclidean distances in positions from who asks to the centres of who answers, (N, M)."""
    return torch.cdist(
        _places(grid(site), 1), _places(grid(site), tile(site)), compute_mode="donot_use_mm_for_euclid_dist"
    )


def later(site: SiteInfo) -> Tensor:
    """True where a token asks a later one; False everywhere on other layouts. (N, M)."""
    mask = torch.ones(positions(site), keys(site), dtype=torch.bool)
    return mask.triu(1) if site.layout is Layout.TOKENS else torch.zeros_like(mask)


def crowded(site: SiteInfo, *, spatial: int = POSITIONS_MAX, tokens: int = TOKENS_MAX) -> str:
    """A `Blueprint.refusal`: why this site has too many positions to look over; empty if it has not."""
    most = tokens if site.layout is Layout.TOKENS else spatial
    if positions(site) <= most:
        return ""
    return f"looks over at most {most} positions of a {site.layout}; {site.shape} has {positions(site)}"


def attention_params(site: SiteInfo, heads: int, width: int) -> int:
    channels, inner = site.channels, heads * width
    into = 3 * pointwise_params(site, channels, inner, bias=False)
    return into + pointwise_params(site, inner, channels) + heads


def attention_flops(site: SiteInfo, heads: int, width: int) -> int:
    """Query and back at N positions, key and value at M, and two products of N · M in each head."""
    channels, inner = site.channels, heads * width
    answering = 2 * 2 * keys(site) * channels * inner
    return 2 * pointwise_flops(site, channels, inner) + answering + 4 * positions(site) * keys(site) * inner


def _tiles(site: SiteInfo, side: int) -> int:
    return math.prod(-(-size // side) for size in grid(site))


def _places(shape: tuple[int, ...], side: int) -> Tensor:
    """Centres of the tiles, in positions, (M, dimensions)."""
    axes = [
        torch.tensor([(start + min(start + side, size) - 1) / 2 for start in range(0, size, side)])
        for size in shape
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
