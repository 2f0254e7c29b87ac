"""What is left of the budget, and what the next epoch may take of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.config import Config
from esper.tolaria.budget import Budget, Costs
from esper.tolaria.comparison import OBJECTIVE
from esper.tolaria.conflict import Conflicts
from esper.tolaria.costs import SHADOW, CostBook
from esper.tolaria.flops import Account, FlopLedger
from esper.tolaria.growth import Growth, Seed
from esper.tolaria.loop import Pace
from esper.tolaria.safepoint import SafePoint
from esper.tolaria.teacher import Distillation

COUNT_RESERVE = 2
"""A changed network is counted while the budget has this many times what the last count took."""


@dataclass(frozen=True)
class Purse:
    """Answers for the network as it is now; FLOPs are counted anew when it has changed.

    `validation_examples` are looked at after each epoch.
    """

    budget: Budget
    costs: CostBook
    ledger: FlopLedger
    growth: Growth
    safe_point: SafePoint
    conflicts: Conflicts
    distillation: Distillation
    config: Config
    validation_examples: int

    @property
    def left(self) -> float:
        """FLOPs that the budget still has; infinite if it is in epochs."""
        return float("inf") if self.budget.flops is None else self.budget.flops - self.ledger.spent

    @property
    def forward(self) -> int:
        """FLOPs of the validation pass."""
        return self.costs.forward(self.validation_examples)

    def steps(self, epoch: int) -> int:
        """Steps that the epoch after `epoch` epochs may take."""
        if self._too_little_to_count():
            return 0
        costs = self._epoch_costs()
        return self.budget.steps(self.config.train.epoch_steps, epoch, self.ledger.spent, costs)

    @property
    def shortest(self) -> int:
        """FLOPs of one step with all that belongs to it: a budget of less has none."""
        costs = self._epoch_costs()
        return costs.of(1) + costs.after

    def pace(self, epoch: int) -> Pace:
        """How far along those steps are."""
        if self._too_little_to_count():
            return Pace(self.progress(epoch), 0.0)
        costs = self._epoch_costs()
        return self.budget.pace(self.config.train.epoch_steps, epoch, self.ledger.spent, costs)

    def progress(self, epoch: int) -> float:
        """Share of the budget that is spent after `epoch` epochs, 0 to 1."""
        return self.budget.progress(epoch, self.ledger.spent)

    def book_steps(self, steps: int) -> None:
        """`steps` training steps were taken."""
        self.ledger.add(Account.TRAIN, steps * self.costs.step)

    def book_validation(self, compared: bool) -> None:
        """The validation pass was made; `compared` says that seeds were compared with it."""
        spent_anyway = compared and not self.ledger.counts_validation
        account = Account.COUNTERFACTUAL if spent_anyway else Account.VALIDATION
        self.ledger.add(account, self.forward)

    def _teaching(self) -> int:
        """What a teacher adds to a step; a forward pass is less than a step."""
        flops = self.distillation.step_flops
        return self.costs.step if flops is None else flops

    def _too_little_to_count(self) -> bool:
        """The network has grown, and what is left may not suffice to count it."""
        return self.left < COUNT_RESERVE * self.costs.count and self.costs.outdated(self.safe_point.version)

    def _epoch_costs(self) -> Costs:
        self.costs.turn_to(self.safe_point.version)
        learning = [seed for seed in self.growth.open_seeds() if seed.learns]
        return Costs(
            step=self.costs.step + self._teaching(),
            shadow=self._passes(SHADOW, learning),
            shadow_every=self.config.growth.shadow_every,
            after=self.forward if self.ledger.counts_validation else 0,
            conflict=self._passes(OBJECTIVE, self.conflicts.rivals()),
            conflict_every=self.conflicts.every,
        )

    def _passes(self, work: str, seeds: Sequence[Seed]) -> int:
        """One pass for each of these seeds; what has not been counted takes a step at most."""
        known = [self.costs.known(work, seed.record.seed_id) for seed in seeds]
        return sum(self.costs.step if flops is None else flops for flops in known)
