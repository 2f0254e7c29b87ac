"""BP047, memory leak: after the onset each pass keeps a block of memory for good."""

import torch
from torch import Tensor

from esper.karn.blueprints.hazard import Hazard, HazardBlueprint, describe

LEAK_BYTES = 64 << 20
"""Kept by one pass; every page of it is written to."""


class LeakingModule(Hazard):
    """Remembers what nobody asks for; its output is sound."""

    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        kept: list[Tensor] = self.__dict__.setdefault("kept", [])
        kept.append(torch.ones(LEAK_BYTES, dtype=torch.uint8))
        return y


class MemoryLeak(HazardBlueprint):
    descriptor = describe(47, "memory leak", "Keeps 64 MiB more with every pass.", 1.0)
    module = LeakingModule
    tags = ("hazard", "memory")
