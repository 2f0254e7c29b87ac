"""The training loop between two boundaries, kept as lean as the plainest loop that does the same.

A step does here, beyond forward, backward and update: one rate set, one pass that sees NaN and
infinity, one attribute read for the stop flag. What else there is (seeds on the shadow path, live seeds
that are compared, clipping, norms of seeds that are being watched) costs nothing when there is none of it.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer

from esper.tolaria.comparison import Comparison
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.gradients import FiniteCheck, drop_gradients, gradients_of, norm
from esper.tolaria.level import Opening
from esper.tolaria.loader import Loader
from esper.tolaria.rates import Rates
from esper.tolaria.task import LossFn
from esper.tolaria.trial import WRONG

SAMPLE_EVERY = 10
"""Steps between two samples for telemetry."""
SAMPLES_MAX = 1_000
"""Samples kept for whoever reads them; the oldest are dropped."""


class Sample(NamedTuple):
    """One step as telemetry sees it."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float


class ShadowStep(NamedTuple):
    """What one pass on the shadow path gave.

    `finite` vouches for the loss, the contribution and every gradient; `rms_ratio` is that of
    `SeedFigures`; `grad_norm` is the L2 norm of the gradients that the pass left.
    """

    finite: bool
    rms_ratio: float
    grad_norm: float


ShadowPass: TypeAlias = Callable[[Tensor, Tensor], ShadowStep]
"""(inputs, targets) of one mini-batch → gradients in the seed's own parameters, and only there."""


@dataclass
class Watched:
    """A seed that the loop keeps figures of; `shadow` is its pass while it learns in isolation."""

    seed_id: str
    parameters: Sequence[nn.Parameter]
    shadow: ShadowPass | None = None
    norm_sum: float = 0.0
    norms: int = 0
    rms_ratio: float | None = None
    finite: bool = True

    def saw(self, grad_norm: float) -> None:
        """One more step's gradient; 0 if nothing depended on the seed's parameters."""
        self.norm_sum += grad_norm
        self.norms += 1


@dataclass(frozen=True)
class Crew:
    """Who takes part in a step.

    `parameters` is all that has a gradient to forget; `owners` are what gradient norms are clipped by;
    `watched` are the seeds that are not part of the host yet and learn.
    """

    parameters: Sequence[nn.Parameter]
    owners: Sequence[Sequence[nn.Parameter]]
    watched: Sequence[Watched] = ()
    comparison: Comparison | None = None
    """Of the live undecided seeds, if there are several; it may replace the host's gradients."""


@dataclass(frozen=True)
class Pace:
    """How the share of the budget that is spent rises through the epoch's steps."""

    start: float
    per_step: float


@dataclass(frozen=True)
class Trained:
    """What the steps of one epoch gave; `loss` is their mean, NaN for none."""

    steps: int
    loss: float
    loss_max: float
    learning_rate: float
    grad_norm: float
    shadow_passes: int


@dataclass
class StepLoop:
    """Takes optimizer steps; `stop_requested` may be set by any thread and ends it after a step."""

    model: nn.Module
    loader: Loader
    optimizer: Optimizer
    rates: Rates
    loss_fn: LossFn
    clip_norm: float
    shadow_every: int
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    stop_requested: bool = False
    loss_limit: float = math.inf
    """A step whose loss is above it is not taken."""
    opening: Opening | None = None
    """In the first epoch, what the limit follows."""
    grad_norm: float = 0.0
    """Of the newest step that was sampled, in whichever epoch."""
    broken_at: int = -1
    """Global number of the newest step that ended in an error."""
    _finite: FiniteCheck = field(default_factory=FiniteCheck)

    def run(self, crew: Crew, first_step: int, steps: int, pace: Pace) -> Trained:
        """Take up to `steps` optimizer steps; `first_step` is the first one's global number.

        Raises:
            TrainingDiverged: a loss or gradient was not finite, or the loss above `loss_limit`; that step was
                not taken. Or the last step of the first epoch was, and its loss was above it.
            what a step raised, of `WRONG`: `broken_at` says in which.
        """
        model, loss_fn, rates, optimizer = self.model, self.loss_fn, self.rates, self.optimizer
        parameters, watched, comparison = crew.parameters, crew.watched, crew.comparison
        loss_sum, loss_max, step, rate, shadow_passes = 0.0, -math.inf, first_step, 0.0, 0
        try:
            for inputs, targets in self.loader.batches(0 if self.stop_requested else steps):
                rate = rates.apply(pace.start + (step - first_step) * pace.per_step)
                for parameter in parameters:
                    parameter.grad = None
                loss = loss_fn(model(inputs), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                value = loss.item()
                self._see(step, value, rate, gradients_of(parameters))
                if comparison is not None and step % comparison.every == 0:
                    comparison.compare(step, value, inputs, targets)
                if watched:
                    shadow_passes += self._watch(watched, step, inputs, targets)
                if self.clip_norm:
                    for owner in crew.owners:
                        nn.utils.clip_grad_norm_(owner, self.clip_norm)
                optimizer.step()
                loss_sum += value
                loss_max = value if value > loss_max else loss_max
                step += 1
                if self.stop_requested:
                    break
            if self.opening is not None and self.opening.open and not self.stop_requested:
                raise TrainingDiverged(step, "training loss", self.loss_limit, taken=True)
        except WRONG:
            self.broken_at = step
            raise
        taken = step - first_step
        mean = loss_sum / taken if taken else math.nan
        return Trained(taken, mean, loss_max, rate, self.grad_norm, shadow_passes)

    def _see(self, step: int, loss: float, rate: float, gradients: list[Tensor]) -> None:
        """Stop at what is not finite, or far too large; sample every so often."""
        if loss - loss != 0.0:  # NaN and infinity, and nothing else
            raise TrainingDiverged(step, "training loss")
        if loss > self.loss_limit and (self.opening is None or self.opening.is_spike(loss)):
            raise TrainingDiverged(step, "training loss", self.loss_limit)
        if self.opening is not None:
            self.loss_limit = self.opening.saw(loss)
        if not self._finite.passes(gradients):
            raise TrainingDiverged(step, "gradient")
        if step % SAMPLE_EVERY == 0:
            self.grad_norm = norm(gradients)
            self.samples.append(Sample(step, loss, rate, self.grad_norm))

    def _watch(self, watched: Sequence[Watched], step: int, inputs: Tensor, targets: Tensor) -> int:
        """Shadow passes of the seeds that are due for one, norms of all that have gradients."""
        passes = 0
        for seed in watched:
            if seed.shadow is None:
                if seed.parameters:
                    seed.saw(norm(gradients_of(seed.parameters)))
            elif step % self.shadow_every == 0:
                passes += 1
                self._shadow(seed, seed.shadow(inputs, targets))
        return passes

    def _shadow(self, seed: Watched, result: ShadowStep) -> None:
        seed.rms_ratio = result.rms_ratio
        if not result.finite:
            seed.finite = False
            drop_gradients(seed.parameters)  # its own fault: the host goes on as if it were not there
        elif seed.parameters:
            seed.saw(result.grad_norm)
