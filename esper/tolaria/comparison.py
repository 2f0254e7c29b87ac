"""The passes that compare the objectives of several live seeds, and what they come to in an epoch.

What the objectives are, and what is decided on the figures, is said in `conflict`.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor, nn

from contracts.conflict import JOINT, ConflictFacts, PairFacts
from esper.kasmina.aside import call, device_of, spared_buffers
from esper.kasmina.graft import Grafts
from esper.kasmina.stream import RandomStream
from esper.tolaria.costs import CostBook
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.flops import Account, FlopLedger
from esper.tolaria.gradients import FiniteCheck
from esper.tolaria.surgery import Gradient, Gram, combined, cosine, gram, pcgrad, random_orders
from esper.tolaria.task import LossFn

OBJECTIVE = "objective"
"""The work of one batch on a seed's objective."""
_SMALLEST = 1e-12
"""What a loss is at least taken to be where it is divided by."""


@dataclass(frozen=True)
class Terms:
    """How an epoch compares: whose objectives, how much each counts, in which steps, and what follows."""

    weights: dict[str, float]
    """By seed; the joint objective counts 1."""
    every: int
    """A step compares if this divides its number."""
    projects: bool
    run_seed: int


@dataclass
class _Tally:
    """Sums over the steps of an epoch; the objectives are JOINT and then the seeds'."""

    names: tuple[str, ...]
    steps: int = 0
    conflicts: int = 0
    projected: int = 0
    flops: int = 0
    losses: list[float] = field(default_factory=list)
    cosines: dict[tuple[int, int], list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.losses = [0.0] * len(self.names)
        self.cosines = {pair: [] for pair in combinations(range(len(self.names)), 2)}

    def add(self, losses: Sequence[float], products: Gram) -> None:
        """One more step."""
        for (i, j), values in self.cosines.items():
            values.append(cosine(products, i, j))
        self.steps += 1
        self.conflicts += any(values[-1] < 0.0 for values in self.cosines.values())
        self.losses = [total + loss for total, loss in zip(self.losses, losses, strict=True)]

    def facts(self) -> ConflictFacts:
        """The epoch's figures."""
        return ConflictFacts(
            self.steps, self.conflicts, self._excess(), self.projected, self.flops, tuple(self._pairs())
        )

    def _excess(self) -> float:
        if not self.steps:
            return 0.0
        joint, *alone = (total / self.steps for total in self.losses)
        return (joint - min(alone)) / max(abs(min(alone)), _SMALLEST)

    def _pairs(self) -> list[PairFacts]:
        return [
            PairFacts(
                one=self.names[i],
                other=self.names[j],
                cosine_mean=math.fsum(values) / len(values),
                cosine_min=min(values),
                conflicts=sum(value < 0.0 for value in values),
            )
            for (i, j), values in self.cosines.items()
            if values
        ]


class Comparison:
    """Compares the objectives of live seeds in the steps of one epoch; `host` is what they share.

    A pass for one seed alone leaves nothing behind: buffers (a batch norm's statistics) and the random
    streams are put back. Its random numbers depend on the run's seed and the step, and all of a
    step's passes begin with the same.
    """

    def __init__(
        self,
        grafts: Grafts,
        host: Sequence[nn.Parameter],
        terms: Terms,
        loss_fn: LossFn,
        costs: CostBook,
        ledger: FlopLedger,
    ) -> None:
        self.every = terms.every
        self._terms = terms
        self._seed_ids = list(terms.weights)
        self._grafts, self._host, self._loss_fn = grafts, host, loss_fn
        self._costs, self._ledger = costs, ledger
        self._modules = tuple(grafts.model.modules())
        self._finite = FiniteCheck()
        self._tally = _Tally((JOINT, *self._seed_ids))

    def compare(self, step: int, loss: float, inputs: Tensor, targets: Tensor) -> None:
        """Compare what this step's joint pass left with each seed's own; `loss` is the joint one.

        If this epoch projects, the host's gradients are replaced; the seeds' are not touched.

        Raises:
            TrainingDiverged: a loss or gradient of one seed alone, or the projected one, is not finite.
        """
        losses: list[float] = [loss]
        gradients: list[Gradient] = [[parameter.grad for parameter in self._host]]
        for seed_id in self._seed_ids:
            value, gradient = self._alone(seed_id, step, inputs, targets)
            losses.append(value)
            gradients.append(gradient)
        products = gram(gradients)
        self._check(step, losses, products)
        self._tally.add(losses, products)
        if self._terms.projects:
            self._project(step, gradients, products)

    def facts(self) -> ConflictFacts:
        """The figures of the steps so far."""
        return self._tally.facts()

    def _check(self, step: int, losses: Sequence[float], products: Gram) -> None:
        """Stop at what is not finite; the joint pass has been seen to be."""
        for i, seed_id in enumerate(self._seed_ids, start=1):
            if not math.isfinite(losses[i]):
                raise TrainingDiverged(step, f"training loss with {seed_id} alone")
            if not math.isfinite(products[i][i]):
                raise TrainingDiverged(step, f"gradient with {seed_id} alone")

    def _alone(self, seed_id: str, step: int, inputs: Tensor, targets: Tensor) -> tuple[float, Gradient]:
        """The loss with this seed alone, and the host's gradient of it."""
        stream = RandomStream(self._terms.run_seed, "conflict", step)
        with ExitStack() as stack:
            stack.enter_context(stream.flowing(device_of(inputs)))
            stack.enter_context(spared_buffers(self._modules))
            for other in self._seed_ids:
                if other != seed_id:
                    stack.enter_context(self._grafts.without(other))
            found, flops = self._costs.of_seed(OBJECTIVE, seed_id, lambda: self._backward(inputs, targets))
        self._ledger.add(Account.CONFLICT, flops)
        self._tally.flops += flops
        return found

    def _backward(self, inputs: Tensor, targets: Tensor) -> tuple[float, Gradient]:
        loss = self._loss_fn(call(self._grafts.model, inputs), targets)
        return loss.item(), torch.autograd.grad(loss, list(self._host), allow_unused=True)

    def _project(self, step: int, gradients: Sequence[Gradient], products: Gram) -> None:
        weights = [1.0, *self._terms.weights.values()]
        shares = [weight / sum(weights) for weight in weights]
        orders = random_orders(self._terms.run_seed, step, len(shares))
        new = combined(gradients, pcgrad(products, shares, orders))
        if not self._finite.passes([gradient for gradient in new if gradient is not None]):
            raise TrainingDiverged(step, "projected gradient")
        for parameter, gradient in zip(self._host, new, strict=True):
            parameter.grad = gradient
        self._tally.projected += 1
