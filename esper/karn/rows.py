"""Rows: an example of any layout as (positions, channels), for modules that are the same on each layout.

Shapes: B batch, N positions, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.growth import Layout, SiteInfo
from esper.karn.layers import Layer, pointwise

_ROW = SiteInfo(name="row", layout=Layout.TOKENS, shape=(1, 1), channels=1, depth=0)
"""A row is laid out as a token: channels last."""
HALF = frozenset((torch.float16, torch.bfloat16))


class OnRows(nn.Module):
    """Gives (B, *shape) to a module of rows (B, N, C), and its answer back in the same layout."""

    def __init__(self, inner: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.inner = inner
        self.channels_last = layout is Layout.TOKENS

    def forward(self, h: Tensor) -> Tensor:
        if self.channels_last:
            y_BNC: Tensor = self.inner(h)
            return y_BNC
        y_BNC = self.inner(h.unsqueeze(-1).flatten(2).transpose(1, 2))
        return y_BNC.transpose(1, 2).reshape(h.shape)


def row_map(fan_in: int, fan_out: int, generator: torch.Generator | None, *, bias: bool = True) -> Layer:
    """A map of the last dimension; all zero without a generator."""
    return pointwise(_ROW, fan_in, fan_out, generator, bias=bias)


def drawn(shape: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    """A parameter uniform in ±1/sqrt(its last size)."""
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def calm(x: Tensor) -> Tensor:
    """x / sqrt(1 + mean square of its last dimension), so that scores made of it stay bounded.

    The root mean square norm of Zhang and Sennrich 2019, with 1 in the place of its epsilon: a small x passes
    as it is, and even a single channel keeps its size rather than only its sign. Half precision is left for
    the squares: those of float16 end at 255.
    """
    if x.dtype in HALF:
        return calm(x.float()).to(x.dtype)
    return x * torch.rsqrt(1 + x.square().mean(-1, keepdim=True))


def unit(x: Tensor) -> Tensor:
    """x with length 1 along its last dimension; zero stays zero, which float16 alone would not give.

    In half precision what is shorter than 1e-4 stays shorter than 1: its gradient would leave float16.
    """
    if x.dtype in HALF:
        return F.normalize(x.float(), dim=-1, eps=1e-4).to(x.dtype)
    return F.normalize(x, dim=-1)
