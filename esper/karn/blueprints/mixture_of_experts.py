"""BP036, mixture of experts: a router gives each position to the two experts that it likes best.

Jacobs et al. 1991; the two best of several as in Shazeer et al. 2017, f(x) = Σ_e gate_e expert_e(x), the
gates a softmax over the two chosen scores. Shapes do not depend on the choice: every expert is computed, and
the FLOPs say so; what is saved is interference between experts, not time. Experts whose scores tie for the
last place are all chosen. There is no balancing loss, which a blueprint has no way to add.

Shapes: B batch, N positions, C channels, E experts, W width of one.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.rows import OnRows, calm, row_map

CHOSEN = 2
"""Experts that answer for a position."""


class Experts(nn.Module):
    """f(x) = back(gate_e · gelu(into_e(calm(x))) for every expert e), for rows (B, N, C)."""

    def __init__(self, channels: int, experts: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.experts = experts
        self.router = row_map(channels, experts, generator)
        self.into = row_map(channels, experts * width, generator)
        self.back = row_map(experts * width, channels, None)

    def gates(self, x_BNC: Tensor) -> Tensor:
        """How much each expert counts, (B, N, E): sums to 1, zero for all but the chosen."""
        scores_BNE: Tensor = self.router(calm(x_BNC))
        last_BN1 = scores_BNE.topk(CHOSEN, 2).values[:, :, -1:]
        return scores_BNE.masked_fill(scores_BNE < last_BN1, -math.inf).softmax(2)

    def forward(self, x_BNC: Tensor) -> Tensor:
        y_BNEW = torch.unflatten(F.gelu(self.into(calm(x_BNC))), 2, (self.experts, -1))
        z_BNC: Tensor = self.back((self.gates(x_BNC).unsqueeze(3) * y_BNEW).flatten(2))
        return z_BNC


class MixtureOfExperts(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP036",
        name="mixture of experts",
        tier=BlueprintTier.EXPERIMENTAL,
        description="A router gives each position to two of several small perceptrons.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 512),
            "experts": BlueprintParameterBounds(3, 16),
        },
        risk=0.45,
        stage=4,
        approval_required=True,
    )
    layouts = EVERY_LAYOUT
    tags = ("experts", "gate", "routing")
    fixed: ClassVar[Mapping[str, float]] = {"experts": 4.0}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(Experts(site.channels, size["experts"], size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, hidden = site.channels, size["experts"] * size["width"]
        return (
            pointwise_params(site, channels, size["experts"])
            + pointwise_params(site, channels, hidden)
            + pointwise_params(site, hidden, channels)
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        hidden = size["experts"] * size["width"]
        return pointwise_flops(site, site.channels, size["experts"]) + 2 * pointwise_flops(
            site, site.channels, hidden
        )
