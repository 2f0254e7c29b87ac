"""BP019, dynamic convolution: each example mixes a kernel from `kernels` learned ones; then back.

Chen et al. 2020 (arXiv 1912.03458): a small perceptron of the means over positions weighs the kernels by
softmax. Its temperature is 1, where the paper's annealing ends. Each example has a kernel of its own, so
the convolution is a product of that kernel with the example's patches; the cost is one convolution's and the
mixing's. It looks at all positions, so it does not grow on tokens.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint, positions
from esper.karn.layers import (
    KERNEL,
    SPATIAL,
    Layer,
    dense,
    drawn,
    pointwise,
    pointwise_flops,
    pointwise_params,
    taps,
)

REDUCTION = 4
"""Channels over the width of the perceptron that weighs the kernels, never less than their number."""


class MixedConvolution(nn.Module):
    """f(h) = back(gelu(W(h) * h + b(h))), W(h) = Σ_k π_k W_k, π (B, K) = softmax(attend(mean(h))).

    Kernels are (K, O · C · taps), their biases (K, O).
    """

    def __init__(self, attend: nn.Module, kernels: nn.Parameter, biases: nn.Parameter, back: Layer) -> None:
        super().__init__()
        self.attend, self.back = attend, back
        self.kernels, self.biases = kernels, biases

    def forward(self, h: Tensor) -> Tensor:
        share_BK = torch.softmax(self.attend(h.flatten(2).mean(2)), dim=1)
        bias_BO = (share_BK.unsqueeze(2) * self.biases).sum(1)
        kernel_BOI = torch.unflatten(share_BK @ self.kernels, 1, (self.biases.shape[1], -1))
        y_BOP = torch.bmm(kernel_BOI, _patches(h)) + bias_BO.unsqueeze(2)
        y: Tensor = self.back(F.gelu(torch.unflatten(y_BOP, 2, h.shape[2:])))
        return y


class DynamicConvolution(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP019",
        name="dynamic convolution",
        tier=BlueprintTier.SAFE,
        description="A kernel-3 convolution whose kernel each input mixes for itself, then a pointwise map.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 1024),
            "kernels": BlueprintParameterBounds(2, 16),
        },
        risk=0.15,
        stage=3,
    )
    layouts = SPATIAL
    tags = ("attention", "convolution", "dynamic")
    fixed: ClassVar[Mapping[str, float]] = {"kernels": 4.0}

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        width, kernels, fan_in = size["width"], size["kernels"], site.channels * taps(site)
        attend = nn.Sequential(
            dense(site.channels, _squeezed(site, kernels), generator),
            nn.ReLU(),
            dense(_squeezed(site, kernels), kernels, generator),
        )
        bound = fan_in**-0.5
        return MixedConvolution(
            attend,
            kernels=drawn((kernels, width * fan_in), bound, generator),
            biases=drawn((kernels, width), bound, generator),
            back=pointwise(site, width, site.channels, None),
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width, kernels, squeezed = size["width"], size["kernels"], _squeezed(site, size["kernels"])
        attend = pointwise_params(site, site.channels, squeezed) + pointwise_params(site, squeezed, kernels)
        mixed = kernels * width * (site.channels * taps(site) + 1)
        return attend + mixed + pointwise_params(site, width, site.channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        width, kernels, fan_in = size["width"], size["kernels"], site.channels * taps(site)
        attend = 2 * _squeezed(site, kernels) * (site.channels + kernels)
        mix = 2 * kernels * width * fan_in
        convolve = 2 * positions(site) * fan_in * width
        return attend + mix + convolve + pointwise_flops(site, width, site.channels)


def _squeezed(site: SiteInfo, kernels: int) -> int:
    return max(kernels, site.channels // REDUCTION)


def _patches(h: Tensor) -> Tensor:
    """(B, C · taps, P): what a kernel sees at each position; a sequence is an image of height 1."""
    if h.dim() == 3:
        return F.unfold(h.unsqueeze(2), (1, KERNEL), padding=(0, KERNEL // 2))
    return F.unfold(h, KERNEL, padding=KERNEL // 2)
