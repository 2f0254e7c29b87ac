"""What is left of the budget, and what the next epoch may take of it."""

from dataclasses import dataclass

from contracts.config import Config
from esper.tolaria.budget import Budget, Costs
from esper.tolaria.costs import SHADOW, CostBook
from esper.tolaria.flops import Account, FlopLedger
from esper.tolaria.growth import Growth
from esper.tolaria.loop import Pace
from esper.tolaria.safepoint import SafePoint

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
        if self.left < COUNT_RESERVE * self.costs.count and self.costs.outdated(self.safe_point.version):
            return 0  # too little is left to count what has grown
        costs = self._epoch_costs()
        return self.budget.steps(self.config.train.epoch_steps, epoch, self.ledger.spent, costs)

    def pace(self, epoch: int) -> Pace:
        """How far along those steps are."""
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

    def _epoch_costs(self) -> Costs:
        self.costs.turn_to(self.safe_point.version)
        learning = [seed.record.seed_id for seed in self.growth.open_seeds() if seed.learns]
        shadows = [self.costs.known(SHADOW, seed_id) for seed_id in learning]
        return Costs(
            step=self.costs.step,
            shadow=sum(self.costs.step if flops is None else flops for flops in shadows),
            shadow_every=self.config.growth.shadow_every,
            after=self.forward if self.ledger.counts_validation else 0,
        )
