"""Who takes part in the steps of an epoch, and how an isolated seed takes its part."""

import logging
import math
from contextlib import nullcontext

from torch import Tensor, nn

from contracts.lifecycle import Stage
from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.shadow import ShadowPath
from esper.tolaria.blame import may_be_a_seeds
from esper.tolaria.conflict import Conflicts, weight_of
from esper.tolaria.costs import SHADOW, CostBook
from esper.tolaria.flops import Account, FlopLedger
from esper.tolaria.gradients import scale_gradients
from esper.tolaria.growth import Growth, Seed
from esper.tolaria.loop import Crew, ShadowStep, Watched
from esper.tolaria.task import LossFn
from esper.tolaria.trial import WRONG

log = logging.getLogger(__name__)


class Shadow:
    """One seed's passes on the shadow path in one epoch, each booked.

    The first pass of the epoch is watched for what it might leave on the host; in a drill all are, bit by
    bit. A pass that raises is one without a finite result: it is the seed's own fault. `weight` multiplies
    the gradient that a pass leaves, not the figures of it.
    """

    def __init__(
        self,
        grafts: Grafts,
        seed: Seed,
        loss_fn: LossFn,
        costs: CostBook,
        ledger: FlopLedger,
        isolation: IsolationMonitor,
        weight: float,
    ) -> None:
        self._seed_id = seed.record.seed_id
        self._path = ShadowPath(grafts, self._seed_id, loss_fn, seed.stream)
        self._costs = costs
        self._ledger = ledger
        self._isolation = isolation
        self._watched = False
        self._drill = seed.record.drill
        self._module = grafts.module(self._seed_id)
        self._weight = weight

    def __call__(self, inputs: Tensor, targets: Tensor) -> ShadowStep:
        seed_id = self._seed_id
        unwatched = self._watched and not self._drill
        watching = self._isolation.watching(seed_id, inputs, targets, exact=self._drill, strict=self._drill)
        try:
            with nullcontext() if unwatched else watching:
                result, flops = self._costs.of_seed(
                    SHADOW, seed_id, lambda: self._path.backward(inputs, targets)
                )
        except WRONG as error:
            if not may_be_a_seeds(error, [self._module]):
                raise
            log.warning("%s fails on the shadow path", seed_id, exc_info=error)
            return ShadowStep(finite=False, rms_ratio=math.inf, grad_norm=0.0)
        self._watched = True
        self._ledger.add(Account.SHADOW, flops)
        if result.finite and self._weight != 1.0:
            scale_gradients(list(self._module.parameters()), self._weight)
        return ShadowStep(result.finite, result.rms_ratio, result.grad_norm)


def crew_of(
    grafts: Grafts,
    growth: Growth,
    loss_fn: LossFn,
    costs: CostBook,
    ledger: FlopLedger,
    isolation: IsolationMonitor,
    conflicts: Conflicts,
) -> Crew:
    """The host with its fossils as one owner, each other seed in place as another."""
    host: list[nn.Parameter] = [parameter for _, parameter in grafts.host_named_parameters()]
    owners = [host]
    watched: list[Watched] = []
    for seed_id in grafts.seed_ids():
        seed = growth.seeds[seed_id]
        own = [parameter for _, parameter in grafts.named_parameters(seed_id)]
        if seed.record.stage is Stage.FOSSILIZED:
            host.extend(own)
            continue
        owners.append(own)
        if (seed.live or seed.learns) and not seed.record.paused:
            weight = weight_of(seed.record.stage, conflicts.config.loss_weights)
            shadow = Shadow(grafts, seed, loss_fn, costs, ledger, isolation, weight) if seed.learns else None
            watched.append(Watched(seed_id, own, shadow))
    everything = [parameter for owner in owners for parameter in owner]
    return Crew(everything, owners, watched, conflicts.comparison(loss_fn, costs, ledger))
