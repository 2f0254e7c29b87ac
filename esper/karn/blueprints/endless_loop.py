"""BP046, endless loop: after the onset a forward pass never comes back.

The loop is in Python and calls torch: it gives the interpreter's lock away every few milliseconds, so other
threads go on, but nothing inside the process can end it. Only the end of the process does.
"""

import torch
from torch import Tensor

from esper.karn.blueprints.hazard import Hazard, HazardBlueprint, describe


class EndlessModule(Hazard):
    """Iterates towards a fixed point and never asks whether it is there."""

    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            while True:
                y = torch.tanh(y + h)


class EndlessLoop(HazardBlueprint):
    descriptor = describe(46, "endless loop", "A forward pass never ends.", 1.0)
    module = EndlessModule
    tags = ("hazard", "time")
