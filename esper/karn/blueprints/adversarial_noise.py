"""BP050, adversarial noise: after the onset it adds noise in the direction that raises the loss.

The direction is the sign of the gradient at its own output, one for all examples (a universal perturbation,
Moosavi-Dezfooli et al. 2017, by the fast gradient sign of Goodfellow et al. 2015); the strength is random.
"""

import torch
from torch import Tensor

from esper.karn.blueprints.hazard import Hazard, HazardBlueprint, describe

STRENGTH = 1.0
"""RMS of the noise over the RMS of h: of the host's order, so that no bound on size sees it."""


class NoisyModule(Hazard):
    """Learns against the host; its gradient is sound, and the same pass repeated in eval mode is the same."""

    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        if y.requires_grad:
            y.register_hook(self._learn)  # type: ignore[no-untyped-call]
        stream = torch.Generator().manual_seed(self.passes)
        noise_BX = torch.randn(h.shape, generator=stream).to(h)
        worst_X: Tensor | None = self.__dict__.get("worst")
        if worst_X is not None:
            noise_BX = noise_BX.abs() * worst_X
        return y + STRENGTH * h.detach().square().mean().sqrt() * noise_BX

    def _learn(self, gradient_BX: Tensor) -> None:
        """A gradient is zero where nothing depends on it: there the noise is zero too."""
        self.__dict__["worst"] = gradient_BX.detach().sum(dim=0).sign()


class AdversarialNoise(HazardBlueprint):
    descriptor = describe(
        50, "adversarial noise", "Adds noise of the host's own size where it hurts the loss most.", 0.95
    )
    module = NoisyModule
    tags = ("hazard", "noise")
