"""BP037, hierarchical attention: each position attends to its own group, and to a summary of every group.

Yang et al. 2016: a group's summary is the mean of its rows, weighted by their likeness to a learned question,
as words make a sentence there. A group is an image's row, or √N neighbours of a sequence or of tokens (the
last group filled up and the filling masked), so that the cost is N · √N. A token attends within its group to
itself and earlier ones, and to the summaries of groups that ended before its own. Beside the summaries there
is an empty one, zero, for whoever needs none or has none yet. Not on vectors, which have one position.

Shapes: B batch, G groups of S rows, N = positions, C channels, D width.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.attention import crowded
from esper.karn.blueprint import Blueprint, positions
from esper.karn.layers import pointwise_params
from esper.karn.rows import OnRows, calm, drawn, row_map

POSITIONS_MAX = 16384
"""128 · 128."""


class TwoLevels(nn.Module):
    """f(x) = back(within(x) + across(x)) for rows (B, N, C)."""

    unseen_rows: Tensor
    unseen_groups: Tensor
    filling: Tensor

    def __init__(self, site: SiteInfo, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.groups, self.rows = groups(site)
        self.count, self.width = positions(site), width
        self.query = row_map(site.channels, width, generator)
        self.key = row_map(site.channels, width, generator, bias=False)
        self.value = row_map(site.channels, width, generator)
        self.ask = row_map(site.channels, width, generator)
        self.question_1D = drawn((1, width), generator)
        self.back = row_map(width, site.channels, None)
        causal = site.layout is Layout.TOKENS
        filling_GS = (torch.arange(self.groups * self.rows) >= self.count).reshape(self.groups, self.rows)
        self.register_buffer("filling", filling_GS, persistent=False)
        self.register_buffer("unseen_rows", _unseen_rows(filling_GS, causal), persistent=False)
        self.register_buffer("unseen_groups", _unseen_groups(self.groups, causal), persistent=False)

    def forward(self, x_BNC: Tensor) -> Tensor:
        filled = F.pad(x_BNC, (0, 0, 0, self.groups * self.rows - self.count))
        x_BGSC = torch.unflatten(filled, 1, (self.groups, self.rows))
        calm_BGSC = calm(x_BGSC)
        k_BGSD, v_BGSD = self.key(calm_BGSC), self.value(x_BGSC)
        within = self.within(self.query(calm_BGSC), k_BGSD, v_BGSD)
        across = self.across(self.ask(calm_BGSC), k_BGSD, v_BGSD)
        y_BGSC: Tensor = self.back(within + across)
        return y_BGSC.flatten(1, 2)[:, : self.count]

    def within(self, q_BGSD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor) -> Tensor:
        """What each row takes from its own group, (B, G, S, D)."""
        return self._weights(q_BGSD, k_BGSD, self.unseen_rows) @ v_BGSD

    def across(self, q_BGSD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor) -> Tensor:
        """What each row takes from the summaries, (B, G, S, D)."""
        chosen_BG1S = self.summary_weights(k_BGSD)
        known_BGD, told_BGD = (
            F.pad((chosen_BG1S @ rows_BGSD).squeeze(2), (0, 0, 1, 0)) for rows_BGSD in (k_BGSD, v_BGSD)
        )
        unseen_GSG = self.unseen_groups.unsqueeze(1).expand(-1, self.rows, -1).flatten(0, 1)
        mixed_BND = self._weights(q_BGSD.flatten(1, 2), known_BGD, unseen_GSG) @ told_BGD
        return torch.unflatten(mixed_BND, 1, (self.groups, self.rows))

    def summary_weights(self, k_BGSD: Tensor) -> Tensor:
        """How much each row counts in its group's summary, (B, G, 1, S): sums to 1 over S."""
        scores_BG1S = (k_BGSD @ self.question_1D.T).transpose(2, 3) / math.sqrt(self.width)
        return scores_BG1S.masked_fill(self.filling.unsqueeze(1), -math.inf).softmax(3)

    def _weights(self, q: Tensor, k: Tensor, unseen: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.width)
        return scores.masked_fill(unseen, -math.inf).softmax(-1)


class HierarchicalAttention(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP037",
        name="hierarchical attention",
        tier=BlueprintTier.EXPERIMENTAL,
        description="Attention within groups of positions, and to a summary of every group.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 1024)},
        risk=0.42,
        stage=4,
        approval_required=True,
    )
    layouts = frozenset({Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS})
    tags = ("attention", "global", "multi-scale")

    def refusal(self, site: SiteInfo) -> str:
        return crowded(site, spatial=POSITIONS_MAX, tokens=POSITIONS_MAX)

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return OnRows(TwoLevels(site, size["width"], generator), site.layout)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        channels, width = site.channels, size["width"]
        into = 4 * pointwise_params(site, channels, width) - width  # the key has no bias
        return into + width + pointwise_params(site, width, channels)

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        """Five maps, two products within groups, the summaries' scores and two sums, two products across."""
        width, (count, rows) = size["width"], groups(site)
        filled = count * rows
        return 2 * filled * width * (5 * site.channels + 2 * rows + 3 + 2 * (count + 1))


def groups(site: SiteInfo) -> tuple[int, int]:
    """How many groups there are, and how many rows each has."""
    if site.layout is Layout.IMAGE:
        return site.shape[1], site.shape[2]
    rows = math.isqrt(positions(site) - 1) + 1
    return -(-positions(site) // rows), rows


def _unseen_rows(filling_GS: Tensor, causal: bool) -> Tensor:
    """True where a row may not look at another of its group, (G, S, S); never at itself."""
    rows = filling_GS.shape[1]
    unseen_GSS = filling_GS.unsqueeze(1).expand(-1, rows, -1)
    if causal:
        unseen_GSS = unseen_GSS | torch.ones(rows, rows, dtype=torch.bool).triu(1)
    return unseen_GSS & ~torch.eye(rows, dtype=torch.bool)


def _unseen_groups(count: int, causal: bool) -> Tensor:
    """True where a group may not look at a summary, (G, 1 + G), the empty summary first."""
    ended = torch.ones(count, count, dtype=torch.bool).tril(-1)
    return F.pad(~ended if causal else torch.zeros_like(ended), (1, 0))
