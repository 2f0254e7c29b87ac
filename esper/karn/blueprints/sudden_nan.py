"""BP045, NaN after n steps: after the onset all that it gives is NaN."""

import torch
from torch import Tensor

from esper.karn.blueprints.hazard import Hazard, HazardBlueprint, describe


class NanModule(Hazard):
    """NaN everywhere."""

    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        return torch.full_like(y, torch.nan) * y


class SuddenNan(HazardBlueprint):
    descriptor = describe(45, "NaN after n steps", "Sound for a while, then every number is NaN.", 0.9)
    module = NanModule
    tags = ("hazard", "numbers")
