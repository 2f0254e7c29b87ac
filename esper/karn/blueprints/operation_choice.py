"""BP040, differentiable choice: a softmax over operations, all computed, weighted by what is learned of them.

Liu et al. 2019 (DARTS), its mixed operation. To choose from on sequences and images: nothing, a skip, the
mean and the largest of the neighbours, a kernel-3 convolution and a dilated one; on vectors and tokens:
nothing, a skip, and maps through GELU, tanh, a sine and a square. The choice starts even. Operations work on
`width` channels, to which the input is mapped first.

Shapes: O operations, W width.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.blueprints.pooling_branches import largest_near, mean_near
from esper.karn.layers import (
    SPATIAL,
    convolution,
    convolution_flops,
    convolution_params,
    pointwise,
    pointwise_flops,
    pointwise_params,
)

DILATION = 2
_MAPS: tuple[Callable[[Tensor], Tensor], ...] = (F.gelu, torch.tanh, torch.sin, torch.square)
_CONVOLUTIONS = 2


class Operation(nn.Module):
    """A layer, if there is one, then a function without parameters."""

    def __init__(self, layer: nn.Module | None, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Identity() if layer is None else layer
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


class MixedOperation(nn.Module):
    """f(h) = back(Σ softmax(α)_o operation_o(into(h)))."""

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.into = pointwise(site, site.channels, width, generator)
        self.operations = nn.ModuleList(_operations(site, width, generator))
        self.alpha_O = nn.Parameter(torch.zeros(len(self.operations)))
        self.back = pointwise(site, width, site.channels, None)

    def forward(self, h: Tensor) -> Tensor:
        x = self.into(h)
        shares = self.alpha_O.softmax(0).unbind()
        mixed = torch.stack(
            [share * operation(x) for share, operation in zip(shares, self.operations, strict=True)]
        ).sum(0)
        z: Tensor = self.back(mixed)
        return z


class OperationChoice(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP040",
        name="differentiable choice of operations",
        tier=BlueprintTier.EXPERIMENTAL,
        description="A learned, soft choice among six operations.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 512)},
        risk=0.45,
        stage=4,
        approval_required=True,
    )
    layouts = EVERY_LAYOUT
    tags = ("convolution", "gate", "search")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return MixedOperation(site, size["width"], generator)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        ends = pointwise_params(site, channels, width) + pointwise_params(site, width, channels)
        if site.layout in SPATIAL:
            return ends + _CONVOLUTIONS * convolution_params(site, width, width) + 4 + _CONVOLUTIONS
        return ends + len(_MAPS) * pointwise_params(site, width, width) + 2 + len(_MAPS)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width = size["width"]
        ends = 2 * pointwise_flops(site, site.channels, width)
        if site.layout in SPATIAL:
            return ends + _CONVOLUTIONS * convolution_flops(site, width, width)
        return ends + len(_MAPS) * pointwise_flops(site, width, width)


def _operations(site: SiteInfo, width: int, generator: torch.Generator) -> list[Operation]:
    nothing, skip = Operation(None, torch.zeros_like), Operation(None, _same)
    if site.layout not in SPATIAL:
        maps = [Operation(pointwise(site, width, width, generator), function) for function in _MAPS]
        return [nothing, skip, *maps]
    near = convolution(site, width, width, generator)
    far = convolution(site, width, width, generator, dilation=DILATION)
    pools = [Operation(None, mean_near), Operation(None, largest_near)]
    return [nothing, skip, *pools, Operation(near, F.gelu), Operation(far, F.gelu)]


def _same(x: Tensor) -> Tensor:
    return x
