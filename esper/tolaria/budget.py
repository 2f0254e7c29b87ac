"""How long a run is: in epochs or in training FLOPs, and how far along it is."""

from dataclasses import dataclass

from contracts.config import RunConfig
from esper.tolaria.loop import Pace

FLOP_PER_GFLOP = 1_000_000_000


@dataclass(frozen=True)
class Costs:
    """FLOPs of what an epoch is made of.

    `shadow` is one batch on the shadow path, which every `shadow_every`-th step takes as well, `conflict`
    the passes of one comparison of live seeds, which every `conflict_every`-th takes; `after` is what
    follows the steps and is part of the budget.
    """

    step: int
    shadow: int
    shadow_every: int
    after: int
    conflict: int = 0
    conflict_every: int = 1

    @property
    def mean_step(self) -> float:
        """A step with its share of the passes that not every step takes."""
        return self.step + self.shadow / self.shadow_every + self.conflict / self.conflict_every

    def of(self, steps: int) -> int:
        """FLOPs of `steps` steps in a row with all passes among them, at most."""
        shadows, comparisons = -(-steps // self.shadow_every), -(-steps // self.conflict_every)
        return steps * self.step + shadows * self.shadow + comparisons * self.conflict


@dataclass(frozen=True)
class Budget:
    """Exactly one of `epochs` and `flops` is set."""

    epochs: int | None
    flops: int | None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.flops is None):
            raise ValueError("a run's length is given by run.epochs or by run.gflop: set one of them")

    def steps(self, wanted: int, epoch: int, spent: int, costs: Costs) -> int:
        """How many of the `wanted` steps of the next epoch the budget still has; 0 ends the run."""
        if self.flops is None:
            return wanted if self.epochs is not None and epoch < self.epochs else 0
        left = self.flops - spent - costs.after
        steps = max(0, min(wanted, left // max(1, costs.step)))
        while steps and costs.of(steps) > left:
            steps -= 1
        return steps

    def pace(self, epoch_steps: int, epoch: int, spent: int, costs: Costs) -> Pace:
        """How far along the next epoch's steps are."""
        if self.flops is None:
            assert self.epochs is not None
            return Pace(epoch / self.epochs, 1.0 / (self.epochs * epoch_steps))
        return Pace(spent / self.flops, costs.mean_step / self.flops)

    def progress(self, epoch: int, spent: int) -> float:
        """Share that is spent, 0 to 1."""
        share = spent / self.flops if self.flops is not None else epoch / (self.epochs or 1)
        return min(1.0, share)


def budget_of(run: RunConfig) -> Budget:
    """The length that the configuration states.

    Raises:
        ValueError: it states none, or two.
    """
    return Budget(run.epochs, None if run.gflop is None else round(run.gflop * FLOP_PER_GFLOP))
