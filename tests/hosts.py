"""Four small hosts, one of each layout, all with dropout and a normalisation, each with a planted problem.

The labels of a problem are those of a wide random network, which a host is too small to fit: more
capacity in the right place lowers the loss.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contracts.growth import Layout, SiteInfo
from esper.kasmina.aside import call
from esper.kasmina.counterfactual import Batches
from esper.kasmina.graft import Grafts
from esper.kasmina.sites import find_sites

CLASSES = 4
loss_fn = nn.functional.cross_entropy


class Mlp(nn.Module):
    """12 → 8 → 8 → 4, batch norm and dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1))
        self.second = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(x)))
        return out


class Conv1d(nn.Module):
    """Two strided convolutions over 24 values, with an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 4, 5, stride=2, padding=2)
        self.norm1 = nn.BatchNorm1d(4)
        self.act1 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.1)
        self.conv2 = nn.Conv1d(4, 4, 3, stride=2, padding=1)
        self.act2 = nn.ReLU()
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.act1(self.norm1(self.conv1(x))))
        out: Tensor = self.head(self.act2(self.conv2(h)).flatten(1))
        return out


class Conv2d(nn.Module):
    """A plain layer and a residual block over 8 by 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout2d(0.1))
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = torch.relu(h + self.block(h))
        out: Tensor = self.head(self.pool(h).flatten(1))
        return out


class Block(nn.Module):
    """Attention and a two-layer network, each normalised first and added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, width))

    def forward(self, h: Tensor) -> Tensor:
        normal = self.norm1(h)
        h = h + self.attention(normal, normal, normal, need_weights=False)[0]
        out: Tensor = h + self.mix(self.norm2(h))
        return out


class Transformer(nn.Module):
    """Two blocks of width 8 over 6 tokens out of 10."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.place = nn.Parameter(torch.randn(6, 8))
        self.blocks = nn.ModuleList([Block(8), Block(8)])
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens) + self.place
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.head(self.norm(h).mean(1))
        return out


@dataclass(frozen=True)
class Host:
    """One host: how it is made, what it eats, where it can grow."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    """Of one example; integers below 10 if `vocabulary`."""
    sites: tuple[str, ...]
    """In the order of the forward pass."""
    layout: Layout
    vocabulary: int = 0

    def model(self, seed: int = 0) -> nn.Module:
        """A new model with the weights that belong to `seed`, in train mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make()

    def batch(self, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Inputs (size, *shape) and labels (size,) of the planted problem, whose rule is always the same."""
        draw = torch.Generator().manual_seed(1000 + seed)
        rule = torch.Generator().manual_seed(7)
        if self.vocabulary:
            inputs = torch.randint(self.vocabulary, (size, *self.shape), generator=draw)
            flat = nn.functional.one_hot(inputs, self.vocabulary).flatten(1).float() * 3.0
        else:
            inputs = torch.randn(size, *self.shape, generator=draw)
            flat = inputs.flatten(1)
        hidden = torch.tanh(
            flat @ torch.randn(flat.shape[1], 32, generator=rule) / flat.shape[1] ** 0.5 * 2.0
        )
        return inputs, (hidden @ torch.randn(32, CLASSES, generator=rule)).argmax(1)

    def grafts(self, seed: int = 0) -> Grafts:
        """A new model with its sites found and nothing grown yet."""
        model = self.model(seed)
        return Grafts(model, find_sites(model, self.sites, self.batch(4)[0]))


HOSTS = (
    Host("mlp", Mlp, (12,), ("first", "second"), Layout.VECTOR),
    Host("conv1d", Conv1d, (1, 24), ("act1", "act2"), Layout.SEQUENCE),
    Host("conv2d", Conv2d, (1, 8, 8), ("stem", "block"), Layout.IMAGE),
    Host("transformer", Transformer, (6,), ("blocks.0", "blocks.1"), Layout.TOKENS, vocabulary=10),
)


def seed_module(
    site: SiteInfo, width: int = 8, zero: bool = True, seed: int = 0, dropout: float = 0.1
) -> nn.Module:
    """A small seed with batch norm (layer norm for tokens) and dropout that keeps the site's shape.

    Its last layer starts at zero unless `zero` is false. The global random stream is not drawn from.
    """
    c = site.channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: dict[Layout, tuple[nn.Module, nn.Module, nn.Module]] = {
            Layout.VECTOR: (nn.Linear(c, width), nn.BatchNorm1d(width), nn.Linear(width, c)),
            Layout.SEQUENCE: (
                nn.Conv1d(c, width, 3, padding=1),
                nn.BatchNorm1d(width),
                nn.Conv1d(width, c, 1),
            ),
            Layout.IMAGE: (nn.Conv2d(c, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, c, 1)),
            Layout.TOKENS: (nn.Linear(c, width), nn.LayerNorm(width), nn.Linear(width, c)),
        }
        first, norm, last = layers[site.layout]
    if zero:
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return nn.Sequential(first, norm, nn.ReLU(), nn.Dropout(dropout), last)


def twin(grafts: Grafts) -> Grafts:
    """An independent copy."""
    return copy.deepcopy(grafts)


def mean_loss(model: nn.Module, batches: Batches) -> tuple[float, None]:
    """Mean of the batches' losses; no accuracy."""
    losses = [loss_fn(call(model, inputs), targets).item() for inputs, targets in batches]
    return sum(losses) / len(losses), None
