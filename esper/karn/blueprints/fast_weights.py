"""BP041, fast weights: a small matrix, empty for each example, is written and read while the positions pass.

Schmidhuber 1992 and Ba et al. 2016, with the delta rule of Schlag et al. 2021: at each position
W ← W + β (v - W k) kᵀ, what was stored under k moves towards v, and W q is read. Keys have length 1 and β is
between 0 and 1, so that W cannot blow up. Positions pass in order, so that none depends on a later one: on
tokens that is required, on sequences it is the direction of time. Not on images, which have no order, nor on
vectors, which have one position.

All positions are computed at once (Yang et al. 2024): what is really written, u = β (v - W k), solves
(I + tril(β k kᵀ, -1)) u = β v, a triangular system, and what is read is tril(q kᵀ) u. The FLOPs leave out
solving it, N · N · D for each example, which torch does not count.

Shapes: B batch, N positions, C channels, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import TOKENS_MAX, crowded
from esper.karn.blueprint import Blueprint, positions
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.rows import HALF, OnRows, calm, row_map, unit


class FastWeightMemory(nn.Module):
    """f(x) = back(what each position reads) for rows (B, N, C) in their order."""

    def __init__(self, channels: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.query = row_map(channels, width, generator)
        self.key = row_map(channels, width, generator)
        self.value = row_map(channels, width, generator)
        self.rate = row_map(channels, 1, generator)
        self.back = row_map(width, channels, None)

    def forward(self, x_BNC: Tensor) -> Tensor:
        y_BNC: Tensor = self.back(delta_rule(*self.parts(x_BNC)))
        return y_BNC

    def parts(self, x_BNC: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, N, D) and rates (B, N, 1)."""
        calm_BNC = calm(x_BNC)
        q_BND, k_BND = (unit(ask(calm_BNC)) for ask in (self.query, self.key))
        return q_BND, k_BND, self.value(x_BNC), torch.sigmoid(self.rate(calm_BNC))


class FastWeights(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP041",
        name="fast weights",
        tier=BlueprintTier.EXPERIMENTAL,
        description="A small matrix is written and read while the positions of an example pass.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 512)},
        risk=0.5,
        stage=4,
        approval_required=True,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.TOKENS})
    tags = ("causal", "memory", "recurrent")

    def refusal(self, site: SiteInfo) -> str:
        return crowded(site, spatial=TOKENS_MAX)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(FastWeightMemory(site.channels, size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        into = 3 * pointwise_params(site, channels, width) + pointwise_params(site, channels, 1)
        return into + pointwise_params(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width = size["width"]
        maps = 4 * pointwise_flops(site, site.channels, width) + pointwise_flops(site, site.channels, 1)
        return maps + 3 * pointwise_flops(site, positions(site), width)


def delta_rule(q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, rate_BN1: Tensor) -> Tensor:
    """What each position reads, (B, N, D), after it has written; the weights start at zero.

    Half precision is left meanwhile: torch solves no triangular system in it.
    """
    if v_BND.dtype in HALF:
        with torch.autocast(v_BND.device.type, enabled=False):
            wide = (one.float() for one in (q_BND, k_BND, v_BND, rate_BN1))
            return delta_rule(*wide).to(v_BND.dtype)
    keys_BDN = k_BND.transpose(1, 2)
    likeness_BNN = rate_BN1 * (k_BND @ keys_BDN)  # only what is below the diagonal is read
    written_BND: Tensor = torch.linalg.solve_triangular(
        likeness_BNN, rate_BN1 * v_BND, upper=False, unitriangular=True
    )
    return (q_BND @ keys_BDN).tril() @ written_BND
