"""Several live seeds at once: whether they pull the host in different directions, and what is done then.

Each seed that is live and undecided has an **objective**: the loss of the network with the fossils and this
seed alone of those seeds. It is what the network will have to be good at if the others are culled. The
**joint** objective is the loss of the network as it runs, with all of them. What they share are the host's
parameters and the fossils', and on these alone are gradients compared: the seeds' own are disjoint, and an
inner product of disjoint gradients is 0 whatever they do.

    a step        the joint pass; host and seeds take its gradients
    comparing     one more pass for each seed alone: the host's gradients, their cosines; nothing changes
    projecting    a comparison, after which the host takes the projected sum of all (see `surgery`)

Negative cosines alone are no harm: seeds that have learned together are bad each alone, and the gradients
with which the host would make up for it are large and point anywhere. It **hurts** when the objectives
conflict and the seeds together also do no better than the best of them alone. So an epoch's steps project if
in the epoch before it the share of compared steps in conflict was at least `growth.surgery.share`, and the
joint loss exceeded the best seed's by at least `growth.surgery.excess` as a share of that. They stop when
one of the two has fallen `growth.surgery.slack` below its threshold. The decision rests on nothing but
the last epoch's result, and the order of the projections on the step's number: there is nothing else to keep.

The **weights** (`growth.loss_weights`, by stage; the joint objective counts 1) say how much each objective
counts in the projected sum, which is divided by the sum of the weights, so that it is as large as a
gradient of one loss. The weight of an isolated seed multiplies the gradient of its shadow passes. What that
comes to depends on the optimizer. SGD takes steps as large as the gradient: the weight is one more factor of
the seed's rate. Adam and RMSprop divide by the gradient's own recent size: for an owner whose whole gradient
has one weight it cancels, apart from Adam's epsilon, from the steps after a change of stage, and from a
clipping norm that it is measured against. To have a seed learn faster or slower there is `train.seed_rate`.
Among the terms of the host's projected sum the weights count under every optimizer.
"""

from dataclasses import dataclass

import msgspec
from torch import nn

from contracts.config import GrowthConfig, LossWeights, SurgeryConfig
from contracts.conflict import ConflictFacts
from contracts.lifecycle import Stage
from esper.kasmina.graft import Grafts
from esper.tolaria.comparison import Comparison, Terms
from esper.tolaria.costs import CostBook
from esper.tolaria.flops import FlopLedger
from esper.tolaria.growth import Growth, Seed
from esper.tolaria.task import LossFn

RIVALS_MIN = 2
"""Live undecided seeds from which on there is anything to compare."""


def weight_of(stage: Stage, weights: LossWeights) -> float:
    """How much the objective of a seed in `stage` counts; 1 where a seed has none."""
    return {
        Stage.TRAINING: weights.training,
        Stage.BLENDING: weights.blending,
        Stage.SHADOWING: weights.shadowing,
        Stage.PROBATIONARY: weights.probationary,
    }.get(stage, 1.0)


def hurts(facts: ConflictFacts, surgery: SurgeryConfig, *, projecting: bool) -> bool:
    """Whether the next epoch projects, by hysteresis; an epoch in which no step was due changes nothing."""
    if not facts.steps:
        return projecting
    slack = surgery.slack if projecting else 0.0
    return facts.share >= surgery.share - slack and facts.excess >= surgery.excess - slack


@dataclass
class Conflicts:
    """Says when objectives are compared, and decides from epoch to epoch whether steps project."""

    grafts: Grafts
    growth: Growth
    config: GrowthConfig
    run_seed: int
    projects: bool = False
    """The next epoch's steps project, if there are rivals in it."""

    @property
    def every(self) -> int:
        """Steps from one comparison to the next; a projection needs one in each step."""
        return 1 if self.projects else self.config.surgery.every

    def rivals(self) -> list[Seed]:
        """The live undecided seeds, if there are enough of them to be compared and it is asked for."""
        if self.config.conflict == "off":
            return []
        live = [seed for seed in self.growth.open_seeds() if seed.live]
        return live if len(live) >= RIVALS_MIN and self.shared() else []

    def comparison(self, loss_fn: LossFn, costs: CostBook, ledger: FlopLedger) -> Comparison | None:
        """The next epoch's; None if there is nothing to compare."""
        rivals, weights = self.rivals(), self.config.loss_weights
        if not rivals:
            return None
        terms = Terms(
            weights={seed.record.seed_id: weight_of(seed.record.stage, weights) for seed in rivals},
            every=self.every,
            projects=self.projects,
            run_seed=self.run_seed,
        )
        return Comparison(self.grafts, self.shared(), terms, loss_fn, costs, ledger)

    def shared(self) -> list[nn.Parameter]:
        """What all seeds share and that learns: the host's parameters and the fossils'."""
        found = [parameter for _, parameter in self.grafts.host_named_parameters()]
        for seed in self.growth.seeds.values():
            if seed.in_place and seed.record.stage is Stage.FOSSILIZED:
                found += [parameter for _, parameter in self.grafts.named_parameters(seed.record.seed_id)]
        return [parameter for parameter in found if parameter.requires_grad]

    def closed(self, comparison: Comparison | None) -> ConflictFacts | None:
        """The epoch's figures with the decision on the next; None if nothing was compared in it."""
        if comparison is None:
            self.projects = False
            return None
        facts = comparison.facts()
        if self.config.conflict == "project":
            self.projects = hurts(facts, self.config.surgery, projecting=self.projects)
        return msgspec.structs.replace(facts, projects_next=self.projects)

    def restore(self, facts: ConflictFacts | None) -> None:
        """Go on as after the epoch that ended with `facts`."""
        self.projects = facts is not None and facts.projects_next
