"""BP023, single-head attention: every position takes a weighted mean of the others, weights by likeness.

Bahdanau et al. 2015; in the form of Vaswani et al. 2017. See `esper.karn.attention` for what all heads share.
Not on vectors: softmax over a single position is always 1, which leaves a linear map.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import Attention, attention_flops, attention_params, crowded
from esper.karn.blueprint import Blueprint
from esper.karn.rows import OnRows


class SingleHeadAttention(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP023",
        name="single-head attention",
        tier=BlueprintTier.SAFE,
        description="Every position takes a mean of all, weighted by likeness; causal for tokens.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 1024)},
        risk=0.2,
        stage=3,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS})
    tags: ClassVar[tuple[str, ...]] = ("attention", "global")
    heads: ClassVar[int] = 1

    def refusal(self, site: SiteInfo) -> str:
        return crowded(site)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(Attention(site, self.heads, size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return attention_params(site, self.heads, size["width"])

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return attention_flops(site, self.heads, size["width"])
