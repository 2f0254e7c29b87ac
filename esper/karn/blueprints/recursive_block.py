"""BP042, recursive block: one transformer block applied `depth` times to its own answer.

Dehghani et al. 2019 ("Universal transformers"), with a fixed depth and a learned mark for each time, so that
the block knows how far it is: x_t = x_t-1 + block(x_t-1 + mark_t), f(x) = x_depth - x. More depth costs FLOPs
and a mark, no other parameters. Not on vectors, as BP030.

Shapes: B batch, N positions, C channels, T times.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import crowded
from esper.karn.blueprint import Blueprint
from esper.karn.rows import OnRows, drawn
from esper.karn.transformer import TransformerLayer, transformer_flops, transformer_params


class Recursion(nn.Module):
    """f(x) = Σ_t block(x + what was added so far + mark_t) for rows (B, N, C)."""

    def __init__(self, block: nn.Module, marks_TC: nn.Parameter) -> None:
        super().__init__()
        self.block, self.marks_TC = block, marks_TC

    def forward(self, x_BNC: Tensor) -> Tensor:
        added_BNC = torch.zeros_like(x_BNC)
        for mark_C in self.marks_TC.unbind():
            added_BNC = added_BNC + self.block(x_BNC + added_BNC + mark_C)
        return added_BNC


class RecursiveBlock(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP042",
        name="recursive block",
        tier=BlueprintTier.EXPERIMENTAL,
        description="One transformer block, applied several times to its own answer.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 512),
            "depth": BlueprintParameterBounds(2, 8),
        },
        risk=0.5,
        stage=4,
        approval_required=True,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS})
    tags = ("attention", "block", "deep", "shared weights")
    fixed: ClassVar[Mapping[str, float]] = {"depth": 3.0}

    def refusal(self, site: SiteInfo) -> str:
        return crowded(site)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        block = TransformerLayer(site, size["width"], generator)
        return OnRows(Recursion(block, drawn((size["depth"], site.channels), generator)), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return transformer_params(site, size["width"]) + size["depth"] * site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return size["depth"] * transformer_flops(site, size["width"])
