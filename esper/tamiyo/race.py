"""What the heuristic measures before it grows: which blueprint pays here, and where.

A race trains forks of the live network, each with one proposal, beside an ungrown control on the same
batches. Racing every blueprint at every site is unreliable at any price worth paying: short forks
favour sites near the output, where little can be learned quickly. So the question is taken in two:
first each blueprint at every site at once, then the finalists at one site at a time.
"""

import math
from collections.abc import Iterable, Sequence

from contracts.config import GrowthConfig, HeuristicConfig
from contracts.growth import (
    Candidate,
    Contender,
    GrowthView,
    ProbePlan,
    ProbeReport,
    ProbeRound,
    SiteInfo,
)
from esper.karn.blueprint import Blueprint
from esper.karn.catalogue import Catalogue
from esper.tamiyo.offer import offered

STEPS_MIN = 50
"""Shorter rounds rank harmless modules first: a useful graft costs loss in its first steps."""
STEPS_MAX = 2_000
BACKWARD = 3
"""Training FLOPs of a module over its forward FLOPs."""
GROWTH_MAX = 10
"""How many times its present cost a network is expected to come to at most."""
SHORT_LIST = ("BP003", "BP008", "BP004")
"""What races where the budget is too small for all: one of each family that learns a map of its own."""
FIRST_STAGE = 1
"""Blueprints up to this curriculum stage race together or not at all."""
SPREAD = 1.5
"""A blueprint that is grafted at every site at once is built this much smaller at each."""


def kind_race(
    view: GrowthView, catalogue: Catalogue, growth: GrowthConfig, config: HeuristicConfig, allotment: int
) -> ProbePlan | None:
    """The blueprints on offer, each at every site that it fits, in two rounds.

    All of the first curriculum stage race, and of the later ones as many as the budget can compare
    properly, in the order of a query; where it can't pay for the first stage, the short list races alone.
    None if there are fewer than two to compare, or if the budget is too small even for that.
    """
    entered, fewest = _entered(view, catalogue, growth, allotment)
    costs = [_step_flops(one, view, catalogue) for one in entered]
    for size in range(len(entered), fewest - 1, -1):
        first = _steps(config.kind_shares[0], costs[:size], view, stretch=size == fewest)
        if first >= STEPS_MIN:
            return _kind_plan(_by_id(entered[:size]), first, view, catalogue, config)
    favourites = _favourites(entered)
    first = steps_for(config.kind_shares[0], favourites, view, catalogue)
    if len(favourites) >= 2 and first >= STEPS_MIN:
        return _kind_plan(_by_id(favourites), first, view, catalogue, config)
    return None


def enough_for_kinds(
    view: GrowthView, catalogue: Catalogue, growth: GrowthConfig, config: HeuristicConfig, allotment: int
) -> int | None:
    """Training FLOPs of the smallest budget with which blueprints race; None if there are fewer than two."""
    entered, fewest = _entered(view, catalogue, growth, allotment)
    favourites = _favourites(entered)
    fields = [entered[:fewest]] if len(entered) >= fewest else []
    fields += [favourites] if len(favourites) >= 2 else []
    share = 2 * config.kind_shares[0] / STEPS_MIN
    sums = [sum(_step_flops(one, view, catalogue) for one in field) + view.step_flops for field in fields]
    return min((math.ceil(steps / share) for steps in sums), default=None)


def _entered(
    view: GrowthView, catalogue: Catalogue, growth: GrowthConfig, allotment: int
) -> tuple[list[Contender], int]:
    """Each blueprint on offer at every site that it fits, and how many of them race at least."""
    sites = [site.site for site in view.sites if site.free]
    room = int(allotment / SPREAD)
    kinds = offered(catalogue, sites, growth, room, view)
    entered = [one for kind in kinds if (one := _everywhere(kind, sites, room)) is not None]
    always = sum(kind.descriptor.stage <= FIRST_STAGE for kind in kinds)
    return entered, max(always, 2)


def _favourites(entered: Iterable[Contender]) -> list[Contender]:
    """Those of the short list."""
    return [one for one in entered if one.grafts[0].blueprint_id in SHORT_LIST]


def _kind_plan(
    contenders: Sequence[Contender],
    first: int,
    view: GrowthView,
    catalogue: Catalogue,
    config: HeuristicConfig,
) -> ProbePlan:
    survivors = min(config.kind_survivors, len(contenders) - 1)
    # Which will survive is not known; the dearest might.
    dearest = sorted(contenders, key=lambda one: -_step_flops(one, view, catalogue))[:survivors]
    second = steps_for(config.kind_shares[1], dearest, view, catalogue)
    rounds = (ProbeRound(first, survivors), ProbeRound(max(1, second), config.kind_finalists))
    return ProbePlan(f"kinds-{view.epoch}", tuple(contenders), rounds, judged_by="training")


def site_race(
    view: GrowthView,
    blueprints: Sequence[Blueprint],
    catalogue: Catalogue,
    config: HeuristicConfig,
    allotment: int,
) -> ProbePlan | None:
    """Each of the blueprints at one site at a time; None if none fits anywhere."""
    free = [site.site for site in view.sites if site.free]
    placed = [fitted(blueprint, site, allotment) for blueprint in blueprints for site in free]
    contenders = tuple(Contender((candidate,)) for candidate in placed if candidate is not None)
    if not contenders:
        return None
    steps = steps_for(config.site_share, contenders, view, catalogue)
    rounds = (ProbeRound(max(1, steps), len(contenders)),)
    return ProbePlan(f"sites-{view.epoch}", contenders, rounds, judged_by="training")


def best_kinds(report: ProbeReport, most: int) -> tuple[str, ...]:
    """Blueprints in the order of their best gain, of those that were trained longest and beat the control."""
    longest = max((score.steps for score in report.scores), default=0)
    paid = [score for score in report.scores if score.steps == longest and score.gain > 0]
    ordered = sorted(paid, key=lambda score: -score.gain)
    return tuple(dict.fromkeys(score.contender.grafts[0].blueprint_id for score in ordered))[:most]


def site_order(report: ProbeReport, view: GrowthView, kinds: Sequence[str], tie: float) -> tuple[str, ...]:
    """Sites from the best to the worst for these blueprints; among ties the one upstream goes first.

    Upstream breaks ties because a seed there has more of the network behind it to learn with, which a
    short race can't show. Sites at which the fork did not beat the control are left out.
    """
    depth = {site.site.name: site.site.depth for site in view.sites}
    left = {}
    for score in report.scores:
        graft = score.contender.grafts[0]
        if graft.blueprint_id in kinds and score.gain > 0:
            left[graft.site] = score.gain
    order = []
    while left:
        bar = tie * max(left.values())
        chosen = min((site for site, gain in left.items() if gain >= bar), key=lambda site: depth[site])
        order.append(chosen)
        del left[chosen]
    return tuple(order)


def fitted(blueprint: Blueprint, site: SiteInfo, max_params: int) -> Candidate | None:
    """The largest form of the blueprint that the site takes within `max_params`."""
    if site.layout not in blueprint.layouts:
        return None
    settings = blueprint.fit(site, max_params)
    if settings is None:
        return None
    return Candidate(site.name, blueprint.blueprint_id, settings, blueprint.params(site, settings))


def steps_for(share: float, contenders: Iterable[Contender], view: GrowthView, catalogue: Catalogue) -> int:
    """Steps that a round of these forks and the control takes for `share` of the run's budget.

    A budget for fewer than `STEPS_MIN` is stretched to that if half of it is there, since a shorter
    round would mislead; else the few that it pays for are returned.
    """
    costs = [_step_flops(contender, view, catalogue) for contender in contenders]
    return _steps(share, costs, view, stretch=True)


def _steps(share: float, costs: Sequence[int], view: GrowthView, *, stretch: bool) -> int:
    """`steps_for` contenders of so many training FLOPs a step; more is paid only with `stretch`."""
    steps = int(share * budget_flops(view) / (sum(costs) + view.step_flops))
    return min(STEPS_MAX, max(STEPS_MIN, steps) if stretch and 2 * steps >= STEPS_MIN else steps)


def budget_flops(view: GrowthView) -> float:
    """The run's budget in training FLOPs.

    Where it is given in epochs: what their steps come to once the network is as large as it may grow.
    """
    if view.budget_flops is not None:
        return float(view.budget_flops)
    return epoch_flops(view) * view.epoch / max(view.progress, 1e-9)


def epoch_flops(view: GrowthView) -> float:
    """Training FLOPs of an epoch's steps once the network is as large as it may grow."""
    return view.epoch_steps * view.step_flops * min(GROWTH_MAX, view.max_params / view.params)


def _by_id(contenders: Iterable[Contender]) -> list[Contender]:
    return sorted(contenders, key=lambda one: one.grafts[0].blueprint_id)


def _everywhere(blueprint: Blueprint, sites: Sequence[SiteInfo], max_params: int) -> Contender | None:
    grafts = [fitted(blueprint, site, max_params) for site in sites]
    placed = tuple(graft for graft in grafts if graft is not None)
    return Contender(placed) if placed else None


def _step_flops(contender: Contender, view: GrowthView, catalogue: Catalogue) -> int:
    """Training FLOPs of one step of the fork: the network's own and those of what is grafted."""
    sites = {site.site.name: site.site for site in view.sites}
    grafted = 0
    for graft in contender.grafts:
        blueprint = catalogue.get(graft.blueprint_id)
        grafted += blueprint.forward_flops(sites[graft.site], graft.parameters)
    return view.step_flops + BACKWARD * grafted * view.batch_size
