"""The layers that blueprints are made of, in the shape a layout asks for and drawn from a passed generator.

"Pointwise" mixes channels at each position apart; a convolution also looks at neighbours and keeps the
length. Channels are dim 1, except for tokens (last). Vectors and tokens have no convolution: tokens can
be a decoder's, where a look at the next position would leak what is to be predicted.
"""

from typing import TypeAlias

import torch
from torch import nn

from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import positions

Layer: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d
KERNEL = 3
_CONVOLUTIONS: dict[Layout, type[nn.Conv1d | nn.Conv2d]] = {
    Layout.SEQUENCE: nn.Conv1d,
    Layout.IMAGE: nn.Conv2d,
}
_DIMENSIONS = {Layout.SEQUENCE: 1, Layout.IMAGE: 2}
_UNFILLED = "meta"
"""Layers are made without memory first: on a real device their constructor draws from the global stream."""
SPATIAL = frozenset(_CONVOLUTIONS)
"""Layouts with neighbours."""


def pointwise(
    site: SiteInfo, fan_in: int, fan_out: int, generator: torch.Generator | None, *, bias: bool = True
) -> Layer:
    """A map from `fan_in` to `fan_out` channels at each position; all zero without a generator."""
    layer: Layer
    if site.layout in _CONVOLUTIONS:
        layer = _CONVOLUTIONS[site.layout](fan_in, fan_out, 1, bias=bias, device=_UNFILLED)
    else:
        layer = nn.Linear(fan_in, fan_out, bias=bias, device=_UNFILLED)
    _fill(layer, generator)
    return layer


def dense(fan_in: int, fan_out: int, generator: torch.Generator | None) -> nn.Linear:
    """A map of the last dimension, whatever the layout; all zero without a generator."""
    layer = nn.Linear(fan_in, fan_out, device=_UNFILLED)
    _fill(layer, generator)
    return layer


def convolution(
    site: SiteInfo,
    fan_in: int,
    fan_out: int,
    generator: torch.Generator | None,
    *,
    dilation: int = 1,
    groups: int = 1,
    kernel: int = KERNEL,
) -> Layer:
    """A convolution, zero-padded to keep the length; all zero without a generator. `kernel` is odd."""
    layer = _CONVOLUTIONS[site.layout](
        fan_in,
        fan_out,
        kernel,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        groups=groups,
        device=_UNFILLED,
    )
    _fill(layer, generator)
    return layer


def pointwise_params(site: SiteInfo, fan_in: int, fan_out: int, *, bias: bool = True) -> int:
    return fan_in * fan_out + fan_out * bias


def convolution_params(
    site: SiteInfo, fan_in: int, fan_out: int, *, groups: int = 1, kernel: int = KERNEL
) -> int:
    return taps(site, kernel) * (fan_in // groups) * fan_out + fan_out


def pointwise_flops(site: SiteInfo, fan_in: int, fan_out: int) -> int:
    return 2 * positions(site) * fan_in * fan_out


def convolution_flops(
    site: SiteInfo, fan_in: int, fan_out: int, *, groups: int = 1, kernel: int = KERNEL
) -> int:
    return 2 * positions(site) * taps(site, kernel) * (fan_in // groups) * fan_out


def taps(site: SiteInfo, kernel: int = KERNEL) -> int:
    """Weights of one kernel between one channel and another: 3 or 3 · 3."""
    return int(kernel ** _DIMENSIONS[site.layout])


def channel_shape(site: SiteInfo) -> tuple[int, ...]:
    """The shape of one number a channel that multiplies a batch: (C, 1, ...), or (C,) for tokens."""
    if site.layout is Layout.TOKENS:
        return (site.channels,)
    return (site.channels, *(1 for _ in site.shape[1:]))


def drawn(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> nn.Parameter:
    """A parameter of its own, uniform in ±`bound`."""
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def _fill(layer: Layer, generator: torch.Generator | None) -> None:
    """Uniform in ±1/sqrt(fan-in), weight and bias, as torch's own layers start; or all zero."""
    layer.to_empty(device="cpu")
    bound = layer.weight[0].numel() ** -0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            if generator is None:
                parameter.zero_()
            else:
                parameter.uniform_(-bound, bound, generator=generator)
