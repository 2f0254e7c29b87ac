"""A throw-away copy of the network and its optimizer, with one candidate grafted, trained a little."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from contracts.growth import Candidate, SiteInfo
from esper.kasmina.aside import in_mode
from esper.kasmina.graft import Grafts
from esper.tolaria.flops import counted
from esper.tolaria.gradients import FiniteCheck, gradients_of
from esper.tolaria.measure import measure
from esper.tolaria.optimizer import admit, twin
from esper.tolaria.randomness import Stream
from esper.tolaria.task import LossFn, Tensors

Build: TypeAlias = Callable[[SiteInfo, Candidate, torch.Generator], nn.Module]
"""(site, candidate, stream of initial values) → the candidate's module, which contributes 0 at first.

Raises UnknownBlueprint or BlueprintError for a candidate that can't be built.
"""

_FORK_SEED = "probe"


@dataclass(frozen=True)
class Original:
    """What is forked; a fork reads it once, while it is being made, and never changes it."""

    grafts: Grafts
    optimizer: Optimizer
    loss_fn: LossFn
    learning_rate: float
    """The host's present rate, which a candidate's group takes too."""


class Fork:
    """A copy of `original` that shares nothing with it; without a candidate it is the control.

    `losses` are the training losses of its steps so far, each taken before the step; `step_flops` is
    known once it is priced. A fork whose loss or gradient is not finite has `diverged` and takes no
    further step.
    """

    def __init__(self, original: Original, rate_multiplier: float, stream: Stream) -> None:
        memo: dict[int, Any] = {}
        self._grafts = copy.deepcopy(original.grafts, memo)
        self._optimizer = twin(original.optimizer, memo)
        self._loss_fn = original.loss_fn
        self._rate = original.learning_rate * rate_multiplier
        for group in self._optimizer.param_groups:
            group["lr"] *= rate_multiplier
        self._stream = stream
        self._finite = FiniteCheck()
        self.losses: list[float] = []
        self.step_flops = 0
        self.diverged = False

    def graft(self, site: SiteInfo, module: nn.Module) -> None:
        """Put a candidate in, live from the first step and trained jointly."""
        seed_id = f"{_FORK_SEED}/{site.name}"
        self._grafts.insert(seed_id, site.name, module)
        self._grafts.set_alpha(seed_id, 1.0)
        admit(self._optimizer, seed_id, self._grafts.named_parameters(seed_id), self._rate)

    def price(self, inputs: Tensor, targets: Tensor) -> int:
        """Count what a step on a mini-batch of this shape costs; in eval mode, so that nothing is moved.

        Returns:
            The FLOPs spent on it: those of one step.
        """
        model = self._grafts.model
        with in_mode(model, training=False):
            self.step_flops = counted(lambda: torch.autograd.backward(self._loss_fn(model(inputs), targets)))
        return self.step_flops

    def train(self, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
        """One step on each batch; the FLOPs spent."""
        before = len(self.losses)
        parameters = list(self._grafts.model.parameters())
        with self._stream.in_place():
            for inputs, targets in batches:
                if self.diverged:
                    continue  # the batches are used up all the same: the other forks' go on from there
                self._step(parameters, inputs, targets)
        return (len(self.losses) - before) * self.step_flops

    def _step(self, parameters: list[nn.Parameter], inputs: Tensor, targets: Tensor) -> None:
        for parameter in parameters:
            parameter.grad = None
        loss = self._loss_fn(self._grafts.model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.losses.append(loss.item())
        if math.isfinite(self.losses[-1]) and self._finite.passes(gradients_of(parameters)):
            self._optimizer.step()
        else:
            self.diverged = True

    def training_loss(self, steps: int) -> float:
        """Mean loss over the last quarter of the newest `steps` steps, infinite if it diverged.

        A useful graft costs loss in its first steps; the end of a round says most of what it will be worth.
        """
        tail = self.losses[-max(1, steps // 4) :]
        return math.inf if self.diverged else math.fsum(tail) / len(tail)

    def validation_loss(self, data: Tensors) -> tuple[float, int]:
        """Mean loss over `data`, infinite if it diverged or is not finite; and the FLOPs of measuring it."""
        if self.diverged:
            return math.inf, 0
        losses: list[float] = []
        with self._stream.in_place():
            flops = counted(
                lambda: losses.append(measure(self._grafts.model, data, self._loss_fn, None).loss)
            )
        return (losses[0] if math.isfinite(losses[0]) else math.inf), flops
