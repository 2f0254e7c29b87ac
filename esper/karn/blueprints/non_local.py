"""BP027, non-local block: every position takes from all others in proportion to a plain product.

Wang et al. 2018, "Non-local neural networks", in its dot-product form, y = θ(x) φ(x)ᵀ g(x) / M, with φ and g
max-pooled by 2 as there. There is no softmax, so that the product may be taken from the right: the cost is
linear in the positions, and a position can also take less than nothing. θ and φ read calmed rows, and the sum
is calmed before the way back: a product of three maps as it is throws training off at a rate of 3e-2. Not on
vectors, which have one position; not on tokens, whose later ones it would see.

Shapes: B batch, N positions, M of them after pooling, C channels, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.attention import grid
from esper.karn.blueprint import Blueprint
from esper.karn.layers import SPATIAL, pointwise_flops, pointwise_params
from esper.karn.rows import OnRows, calm, row_map


class NonLocalSum(nn.Module):
    """f(x) = back(calm(θ(x) (φ(x)ᵀ g(x) / M))) for rows (B, N, C)."""

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = grid(site)
        self.theta = row_map(site.channels, width, generator)
        self.phi = row_map(site.channels, width, generator)
        self.value = row_map(site.channels, width, generator)
        self.back = row_map(width, site.channels, None)

    def forward(self, x_BNC: Tensor) -> Tensor:
        calm_BNC = calm(x_BNC)
        phi_BMD = self._halved(self.phi(calm_BNC))
        value_BMD = self._halved(self.value(x_BNC))
        summary_BDD = phi_BMD.transpose(1, 2) @ value_BMD / phi_BMD.shape[1]
        y_BNC: Tensor = self.back(calm(self.theta(calm_BNC) @ summary_BDD))
        return y_BNC

    def _halved(self, x_BND: Tensor) -> Tensor:
        """The largest value in each tile of 2 (or 2 · 2), a last odd one by itself; (B, M, D)."""
        x_BD = torch.unflatten(x_BND.transpose(1, 2), 2, self.shape)
        if len(self.shape) == 1:
            return F.max_pool1d(x_BD, 2, ceil_mode=True).transpose(1, 2)
        return F.max_pool2d(x_BD, 2, ceil_mode=True).flatten(2).transpose(1, 2)


class NonLocal(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP027",
        name="non-local block",
        tier=BlueprintTier.SAFE,
        description="Every position takes from all others in proportion to a plain product, without softmax.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 1024)},
        risk=0.2,
        stage=3,
    )
    layouts = SPATIAL
    tags = ("attention", "global")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(NonLocalSum(site, size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        return 3 * pointwise_params(site, channels, width) + pointwise_params(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width, pooled = size["width"], 1
        for side in grid(site):
            pooled *= (side + 1) // 2
        return (
            4 * pointwise_flops(site, site.channels, width)
            + 2 * pooled * width * width
            + pointwise_flops(site, width, width)
        )
