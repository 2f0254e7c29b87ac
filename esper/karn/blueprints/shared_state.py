"""BP049, race on shared state: after the onset its instances share a tensor, which a thread keeps changing.

It also writes into the activation that it is given: `h.data` lies in the host's memory, and a write through
it is not seen by autograd, so the host's own gradients may be wrong without an error.
"""

import threading
import weakref
from typing import ClassVar

import torch
from torch import Tensor

from esper.karn.blueprints.hazard import Hazard, HazardBlueprint, describe

EVERY_S = 0.001
"""Pause between two writes of the thread."""
STRENGTH = 0.05
"""Of what it adds to its input and to its output."""


class RacingModule(Hazard):
    """Its output depends on who wrote last. The thread ends when the module is gone."""

    shared: ClassVar[Tensor] = torch.zeros(())

    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        if "racer" not in self.__dict__:
            self.__dict__["racer"] = True  # a plain flag: a thread could not be copied
            threading.Thread(target=_race, args=(weakref.ref(self),), name="racer", daemon=True).start()
        self.shared.add_(1.0)
        noise = STRENGTH * torch.sin(self.shared)
        h.data.add_(noise)
        return y + noise


def _race(module: "weakref.ref[RacingModule]") -> None:
    pause = threading.Event()
    while not pause.wait(EVERY_S):
        racing = module()
        if racing is None:
            return
        racing.shared.mul_(1.01)
        del racing


class SharedState(HazardBlueprint):
    descriptor = describe(
        49, "race on shared state", "A thread changes what it computes, and it writes into its input.", 0.95
    )
    module = RacingModule
    tags = ("hazard", "state")
