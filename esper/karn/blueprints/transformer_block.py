"""BP030, transformer block: two-head attention, then a perceptron at each position.

Vaswani et al. 2017; the norm comes before each part (Xiong et al. 2020). Not on vectors, as BP023; BP008 is
the perceptron alone.
"""

from collections.abc import Mapping

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import crowded
from esper.karn.blueprint import Blueprint
from esper.karn.rows import OnRows
from esper.karn.transformer import TransformerLayer, transformer_flops, transformer_params


class TransformerBlock(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP030",
        name="transformer block",
        tier=BlueprintTier.SAFE,
        description="Two-head attention, then a perceptron at each position; causal for tokens.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 512)},
        risk=0.25,
        stage=3,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS})
    tags = ("attention", "block", "global")

    def refusal(self, site: SiteInfo) -> str:
        return crowded(site)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(TransformerLayer(site, size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return transformer_params(site, size["width"])

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return transformer_flops(site, size["width"])
