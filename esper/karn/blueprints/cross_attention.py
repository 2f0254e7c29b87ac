"""BP026, cross attention: a few learned latents read the positions, and the positions read the latents.

Jaegle et al. 2021, "Perceiver"; both ways as the induced attention of Lee et al. 2019 ("Set transformer"):
the cost is linear in the positions. Each token has latents of its own, which have read no later token; that
costs T · T products for each latent. Not on vectors: latents that can read one position only have no choice.

Shapes: B batch, N positions, C channels, K latents, D their width; T, S tokens that write and are read.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import crowded
from esper.karn.blueprint import Blueprint, positions
from esper.karn.layers import pointwise_flops, pointwise_params
from esper.karn.rows import OnRows, calm, drawn, row_map

TOKENS_MAX = 256
"""Tokens that keep latents of their own."""


class LatentAttention(nn.Module):
    """f(x) = back(softmax(q zᵀ / √D) z), z = latents + softmax(latents kᵀ / √D) v, for rows (B, N, C)."""

    later: Tensor

    def __init__(self, site: SiteInfo, latents: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        channels = site.channels
        self.causal, self.width = site.layout is Layout.TOKENS, width
        self.latents_KD = drawn((latents, width), generator)
        self.key = row_map(channels, width, generator, bias=False)
        self.value = row_map(channels, width, generator)
        self.query = row_map(channels, width, generator)
        self.back = row_map(width, channels, None)
        tokens = positions(site) if self.causal else 1
        mask_TS = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        self.register_buffer("later", mask_TS, persistent=False)

    def forward(self, x_BNC: Tensor) -> Tensor:
        calm_BNC = calm(x_BNC)
        k_BND, v_BND, q_BND = self.key(calm_BNC), self.value(x_BNC), self.query(calm_BNC)
        read = self._read_by_token(k_BND, v_BND) if self.causal else self._read(k_BND, v_BND)
        y_BNC: Tensor = self.back(self._write(q_BND, self.latents_KD + read))
        return y_BNC

    def _scores(self, k_BND: Tensor) -> Tensor:
        """How much each latent likes each position, (B, K, N)."""
        return (k_BND @ self.latents_KD.T / math.sqrt(self.width)).transpose(1, 2)

    def _read(self, k_BND: Tensor, v_BND: Tensor) -> Tensor:
        """What the latents take from all positions, (B, K, D)."""
        return self._scores(k_BND).softmax(2) @ v_BND

    def _read_by_token(self, k_BSD: Tensor, v_BSD: Tensor) -> Tensor:
        """What the latents of each token take from it and earlier ones, (B, T, K, D)."""
        scores_BKTS = self._scores(k_BSD).unsqueeze(2).masked_fill(self.later, -math.inf)
        return (scores_BKTS.softmax(3) @ v_BSD.unsqueeze(1)).transpose(1, 2)

    def _write(self, q_BND: Tensor, z: Tensor) -> Tensor:
        """What each position takes from the latents z, (B, K, D) or its own (B, N, K, D)."""
        asked, known = (q_BND.unsqueeze(2), calm(z)) if self.causal else (q_BND, calm(z))
        scores = asked @ known.transpose(-1, -2) / math.sqrt(self.width)
        return (scores.softmax(-1) @ z).reshape(q_BND.shape)


class CrossAttention(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP026",
        name="cross attention",
        tier=BlueprintTier.SAFE,
        description="Learned latents read the positions, and the positions read the latents.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 1024),
            "latents": BlueprintParameterBounds(1, 64),
        },
        risk=0.22,
        stage=3,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS})
    tags = ("attention", "global", "latents")
    fixed: ClassVar[Mapping[str, float]] = {"latents": 8.0}

    def refusal(self, site: SiteInfo) -> str:
        return crowded(site, tokens=TOKENS_MAX) if site.layout is Layout.TOKENS else ""

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(LatentAttention(site, size["latents"], size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        into = 3 * pointwise_params(site, channels, width) - width  # the key has no bias
        return size["latents"] * width + into + pointwise_params(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        """Four maps, scores and mixing both ways; tokens read every token that each of them may."""
        count, latents, width = positions(site), size["latents"], size["width"]
        readers = count if site.layout is Layout.TOKENS else 1
        pairs = latents * count
        return 4 * pointwise_flops(site, site.channels, width) + 2 * pairs * width * (3 + readers)
