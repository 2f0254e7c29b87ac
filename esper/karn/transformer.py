"""The transformer block, shared by the blueprints that are made of it.

Vaswani et al. 2017, with the norm before each part (Xiong et al. 2020): a = attention(x), then
m = perceptron(x + a). What it adds to x is a + m, exactly 0 at the start, as both parts are.

Shapes: B batch, N positions, C channels.
"""

import torch
from torch import Tensor, nn

from contracts.growth import SiteInfo
from esper.karn.attention import Attention, attention_flops, attention_params
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.rows import calm, row_map

HEADS = 2
HIDDEN = 2
"""Width of the perceptron in widths of all heads."""


class Perceptron(nn.Module):
    """f(x) = back(gelu(into(calm(x)))) for rows (B, N, C)."""

    def __init__(self, channels: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.into = row_map(channels, hidden, generator)
        self.back = row_map(hidden, channels, None)

    def forward(self, x_BNC: Tensor) -> Tensor:
        y_BNC: Tensor = self.back(nn.functional.gelu(self.into(calm(x_BNC))))
        return y_BNC


class TransformerLayer(nn.Module):
    """f(x) = a + perceptron(x + a), a = attention(x), for rows (B, N, C)."""

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.attention = Attention(site, HEADS, width, generator)
        self.perceptron = Perceptron(site.channels, _hidden(width), generator)

    def forward(self, x_BNC: Tensor) -> Tensor:
        a_BNC: Tensor = self.attention(x_BNC)
        m_BNC: Tensor = self.perceptron(x_BNC + a_BNC)
        return a_BNC + m_BNC


def transformer_params(site: SiteInfo, width: int) -> int:
    channels, hidden = site.channels, _hidden(width)
    perceptron = pointwise_params(site, channels, hidden) + pointwise_params(site, hidden, channels)
    return attention_params(site, HEADS, width) + perceptron


def transformer_flops(site: SiteInfo, width: int) -> int:
    return attention_flops(site, HEADS, width) + 2 * pointwise_flops(site, site.channels, _hidden(width))


def _hidden(width: int) -> int:
    return HIDDEN * HEADS * width
