"""BP020, deformable convolution: a kernel that learns where its taps look, then pointwise back.

Dai et al. 2017 (arXiv 1703.06211) with the modulation of Zhu et al. 2019 (arXiv 1811.11168). A convolution of
the input, zero at the start, gives each tap at each position an offset and a weight; the input is read there
by bilinear interpolation (torch's grid_sample), 0 outside. A sequence is read along its one axis alone.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.layers import (
    KERNEL,
    SPATIAL,
    Layer,
    convolution,
    convolution_flops,
    convolution_params,
    pointwise,
    pointwise_flops,
    pointwise_params,
    taps,
)


class DeformedConvolution(nn.Module):
    """f(h) = back(gelu(read(taps of h at p + tap + offset, times a weight in 0 to 2)))."""

    places: Tensor

    def __init__(self, steer: Layer, read: Layer, back: Layer, size: tuple[int, ...]) -> None:
        super().__init__()
        self.steer, self.read, self.back = steer, read, back
        self.axes = len(size)
        self.register_buffer("places", _places(size), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        sampled = self._sampled(h)  # (B, C · taps, ...)
        y: Tensor = self.back(F.gelu(self.read(sampled)))
        return y

    def _sampled(self, h: Tensor) -> Tensor:
        """What each tap reads at each position, as channels."""
        count = self.places.shape[0]
        steered = self.steer(h).flatten(2)  # (B, (axes + 1) · K, P)
        weight_BKP = 2 * torch.sigmoid(steered[:, :count])
        offset_BKPA = torch.unflatten(steered[:, count:], 1, (count, self.axes)).transpose(2, 3)
        image = h if self.axes == 2 else h.unsqueeze(2)
        read_BCKP = F.grid_sample(image, self._grid(offset_BKPA, image), align_corners=False)
        sampled = (read_BCKP * weight_BKP.unsqueeze(1)).flatten(1, 2)
        return torch.unflatten(sampled, 2, h.shape[2:])

    def _grid(self, offset_BKPA: Tensor, image: Tensor) -> Tensor:
        """Where to read, as grid_sample takes it: x before y, -1 and 1 at the outer edges of the image."""
        height, width = image.shape[2:]
        place = self.places + offset_BKPA
        x = (2 * place[..., -1] + 1) / width - 1
        y = (2 * place[..., 0] + 1) / height - 1 if self.axes == 2 else torch.zeros_like(x)
        return torch.stack((x, y), dim=-1)


class DeformableConvolution(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP020",
        name="deformable convolution",
        tier=BlueprintTier.SAFE,
        description="A kernel-3 convolution that learns where its taps look, then a pointwise map.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 1024)},
        risk=0.2,
        stage=3,
    )
    layouts = SPATIAL
    tags = ("convolution", "deformable", "dynamic")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return DeformedConvolution(
            steer=convolution(site, site.channels, _steered(site), None),
            read=pointwise(site, site.channels * taps(site), size["width"], generator),
            back=pointwise(site, size["width"], site.channels, None),
            size=site.shape[1:],
        )

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return (
            convolution_params(site, site.channels, _steered(site))
            + pointwise_params(site, site.channels * taps(site), size["width"])
            + pointwise_params(site, size["width"], site.channels)
        )

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return (
            convolution_flops(site, site.channels, _steered(site))
            + pointwise_flops(site, site.channels * taps(site), size["width"])
            + pointwise_flops(site, size["width"], site.channels)
        )


def _steered(site: SiteInfo) -> int:
    """Numbers a position that steer the taps: each has a weight and an offset along every axis."""
    axes = 2 if site.layout is Layout.IMAGE else 1
    return taps(site) * (axes + 1)


def _places(size: tuple[int, ...]) -> Tensor:
    """(K, P, axes): where each tap looks at each position before anything is learned."""
    reach = torch.arange(KERNEL) - KERNEL // 2
    taps_KA = torch.cartesian_prod(*(reach for _ in size)).reshape(-1, len(size))
    centres_PA = torch.cartesian_prod(*(torch.arange(length) for length in size)).reshape(-1, len(size))
    return (taps_KA.unsqueeze(1) + centres_PA).float()
