"""BP038, memory-augmented block: each position reads a learned memory by content, twice.

The content-based addressing of neural Turing machines (Graves et al. 2014), softmax(β cos(q, key)) with a
learned sharpness β for each read, over learned slots as in Sukhbaatar et al. 2019 and with the second hop of
memory networks (Sukhbaatar et al. 2015): the second question is the first plus what it found. Nothing is
written while it runs, so that examples and positions never see each other; the slots are learned.

Shapes: B batch, N positions, C channels, M slots, D width.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint, positions
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.rows import OnRows, calm, drawn, row_map, unit

HOPS = 2


class MemoryReader(nn.Module):
    """f(x) = back(r_2), r_i = address(q + r_i-1) values, q = question(calm(x)), for rows (B, N, C)."""

    def __init__(self, channels: int, slots: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.question = row_map(channels, width, generator)
        self.sharpness = row_map(channels, HOPS, generator)
        self.keys_MD = drawn((slots, width), generator)
        self.values_MD = drawn((slots, width), generator)
        self.back = row_map(width, channels, None)

    def address(self, q_BND: Tensor, beta_BN1: Tensor) -> Tensor:
        """How much each slot is read, (B, N, M): sums to 1."""
        likeness_BNM = unit(q_BND) @ unit(self.keys_MD).T
        return (beta_BN1 * likeness_BNM).softmax(2)

    def forward(self, x_BNC: Tensor) -> Tensor:
        calm_BNC = calm(x_BNC)
        q_BND = self.question(calm_BNC)
        beta_BNh = 1 + F.softplus(self.sharpness(calm_BNC))  # never below 1, as in the paper
        read_BND = torch.zeros_like(q_BND)
        for beta_BN in beta_BNh.unbind(2):
            read_BND = self.address(q_BND + read_BND, beta_BN.unsqueeze(2)) @ self.values_MD
        y_BNC: Tensor = self.back(read_BND)
        return y_BNC


class Memory(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP038",
        name="memory-augmented block",
        tier=BlueprintTier.EXPERIMENTAL,
        description="Each position reads a learned memory by content, twice.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 1024),
            "slots": BlueprintParameterBounds(2, 256),
        },
        risk=0.42,
        stage=4,
        approval_required=True,
    )
    layouts = EVERY_LAYOUT
    tags = ("attention", "latents", "memory")
    fixed: ClassVar[Mapping[str, float]] = {"slots": 16.0}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(MemoryReader(site.channels, size["slots"], size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return (
            pointwise_params(site, channels, width)
            + pointwise_params(site, channels, HOPS)
            + 2 * size["slots"] * width
            + pointwise_params(site, width, channels)
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        reading = HOPS * 4 * positions(site) * size["slots"] * width
        return 2 * pointwise_flops(site, channels, width) + pointwise_flops(site, channels, HOPS) + reading
