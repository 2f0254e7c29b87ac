"""Blueprints that take their process with them when their module is run."""

import ctypes
import time
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.catalogue import Catalogue


class Scale(nn.Module):
    """f(h) = g · h."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels))

    def misbehave(self) -> None:
        """Nothing bad here."""

    def forward(self, h: Tensor) -> Tensor:
        self.misbehave()
        return self.scale * h


class Hang(Scale):
    def misbehave(self) -> None:
        while True:
            time.sleep(1.0)


class Leak(Scale):
    def misbehave(self) -> None:
        held = []
        while True:
            held.append(torch.ones(4 << 20))


class Crash(Scale):
    def misbehave(self) -> None:
        ctypes.string_at(0)


class Bad(Blueprint):
    layouts = frozenset({Layout.VECTOR})
    knob = None
    module: ClassVar[type[Scale]]

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return self.module(site.channels)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return site.channels

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0


class Hangs(Bad):
    descriptor = BlueprintDescriptor("BP901", "hangs", BlueprintTier.SAFE, "For tests.")
    module = Hang


class Leaks(Bad):
    descriptor = BlueprintDescriptor("BP902", "leaks", BlueprintTier.SAFE, "For tests.")
    module = Leak


class Crashes(Bad):
    descriptor = BlueprintDescriptor("BP903", "crashes", BlueprintTier.SAFE, "For tests.")
    module = Crash


class Behaves(Bad):
    descriptor = BlueprintDescriptor("BP904", "behaves", BlueprintTier.SAFE, "For tests.")
    module = Scale


CATALOGUE = Catalogue([Hangs(), Leaks(), Crashes(), Behaves()])
