"""BP031, conv-transformer block: BP030 with a look at the neighbours before each of its parts.

Attention reads h plus a depthwise convolution of it, as convolutional projections (Wu et al. 2021, CvT) and
conditional positions (Chu et al. 2021) do; the perceptron has a depthwise convolution in the middle (Li et
al. 2021, LocalViT). Sequences and images only: vectors and tokens have no convolution.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.attention import Attention, attention_flops, attention_params, crowded
from esper.karn.blueprint import Blueprint
from esper.karn.layers import (
    SPATIAL,
    convolution,
    convolution_flops,
    convolution_params,
    pointwise,
    pointwise_flops,
    pointwise_params,
)
from esper.karn.rows import OnRows

HEADS = 2


class ConvTransformerLayer(nn.Module):
    """f(h) = a + back(gelu(near(into(h + a)))), a = attention(h + look(h)).

    h is (B, C, L) or (B, C, H, W).
    """

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, hidden = site.channels, HEADS * width
        self.look = convolution(site, channels, channels, generator, groups=channels)
        self.attention = OnRows(Attention(site, HEADS, width, generator), site.layout)
        self.into = pointwise(site, channels, hidden, generator)
        self.near = convolution(site, hidden, hidden, generator, groups=hidden)
        self.back = pointwise(site, hidden, channels, None)

    def forward(self, h: Tensor) -> Tensor:
        a: Tensor = self.attention(h + self.look(h))
        m: Tensor = self.back(F.gelu(self.near(self.into(h + a))))
        return a + m


class ConvTransformer(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP031",
        name="conv-transformer block",
        tier=BlueprintTier.SAFE,
        description="A transformer block that looks at the neighbours before each of its parts.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 512)},
        risk=0.26,
        stage=3,
    )
    layouts = SPATIAL
    tags = ("attention", "block", "convolution", "global")

    def refusal(self, site: SiteInfo) -> str:
        return crowded(site)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return ConvTransformerLayer(site, size["width"], generator)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, hidden = site.channels, HEADS * size["width"]
        return (
            convolution_params(site, channels, channels, groups=channels)
            + attention_params(site, HEADS, size["width"])
            + pointwise_params(site, channels, hidden)
            + convolution_params(site, hidden, hidden, groups=hidden)
            + pointwise_params(site, hidden, channels)
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, hidden = site.channels, HEADS * size["width"]
        return (
            convolution_flops(site, channels, channels, groups=channels)
            + attention_flops(site, HEADS, size["width"])
            + 2 * pointwise_flops(site, channels, hidden)
            + convolution_flops(site, hidden, hidden, groups=hidden)
        )
