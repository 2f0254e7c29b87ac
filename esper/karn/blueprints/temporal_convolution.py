"""BP021, temporal convolution: three convolutions that look back 1, 2 and 4 positions at a time, never ahead.

The causal dilated convolutions of WaveNet (van den Oord et al. 2016, arXiv 1609.03499) and of the temporal
convolutional network (Bai et al. 2018, arXiv 1803.01271), without its weight normalisation and dropout. Each
position sees itself and the 14 before it, so that it may grow on a decoder's tokens.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint, positions
from esper.karn.layers import KERNEL, drawn

DILATIONS = (1, 2, 4)
"""One convolution each, in this order."""


class CausalConvolution(nn.Module):
    """(B, I, L) to (B, O, L); position t sees t, t - dilation and t - 2 · dilation, 0 before the start."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter, dilation: int) -> None:
        super().__init__()
        self.weight, self.bias, self.dilation = weight, bias, dilation

    def forward(self, h: Tensor) -> Tensor:
        before = F.pad(h, (self.dilation * (KERNEL - 1), 0))
        return F.conv1d(before, self.weight, self.bias, dilation=self.dilation)


class ChannelsFirst(nn.Module):
    """A module of (B, C, T) for tokens, (B, T, C)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = self.inner(h.transpose(1, 2)).transpose(1, 2)
        return y


class TemporalConvolution(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP021",
        name="temporal convolution",
        tier=BlueprintTier.SAFE,
        description="Three convolutions that look ever further back, and never ahead.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 4096)},
        risk=0.12,
        stage=2,
    )
    layouts = frozenset((Layout.SEQUENCE, Layout.TOKENS))
    tags = ("causal", "convolution", "dilated")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        steps = tuple(pairwise(_channels(site, size)))
        layers: list[nn.Module] = []
        for (fan_in, fan_out), dilation in zip(steps[:-1], DILATIONS[:-1], strict=True):
            layers += [_causal(fan_in, fan_out, dilation, generator), nn.GELU()]
        stack = nn.Sequential(*layers, _causal(*steps[-1], DILATIONS[-1], None))
        return ChannelsFirst(stack) if site.layout is Layout.TOKENS else stack

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        steps = pairwise(_channels(site, size))
        return sum(KERNEL * fan_in * fan_out + fan_out for fan_in, fan_out in steps)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        steps = pairwise(_channels(site, size))
        return sum(2 * positions(site) * KERNEL * fan_in * fan_out for fan_in, fan_out in steps)


def _channels(site: SiteInfo, size: Mapping[str, int]) -> tuple[int, ...]:
    """Channels before the first convolution and after each."""
    return site.channels, *(size["width"] for _ in DILATIONS[:-1]), site.channels


def _causal(fan_in: int, fan_out: int, dilation: int, generator: torch.Generator | None) -> CausalConvolution:
    """All zero without a generator."""
    shape = (fan_out, fan_in, KERNEL)
    if generator is None:
        weight, bias = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(fan_out))
    else:
        bound = (fan_in * KERNEL) ** -0.5
        weight, bias = drawn(shape, bound, generator), drawn((fan_out,), bound, generator)
    return CausalConvolution(weight, bias, dilation)
