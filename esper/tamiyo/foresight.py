"""What a policy is likely to germinate, so that it is compiled by the time that it is asked for.

A forecast may be wrong: what was not foreseen is built on the spot, with the same bits.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Protocol, runtime_checkable

from contracts.config import GrowthConfig
from contracts.growth import Candidate, GrowthView
from esper.karn.catalogue import Catalogue
from esper.tamiyo.offer import offered
from esper.tamiyo.policy import Policy
from esper.tamiyo.race import fitted

FORECAST_MAX = 64
"""Candidates of one forecast; the least likely are left away."""


@runtime_checkable
class Foresight(Protocol):
    """A policy that can tell what it may ask for next."""

    def likely(self, view: GrowthView) -> tuple[Candidate, ...]:
        """What it may germinate next, the likeliest first. Called at any boundary; changes nothing."""


def forecast(
    policy: Policy, catalogue: Catalogue, growth: GrowthConfig, view: GrowthView
) -> tuple[Candidate, ...]:
    """What may be germinated next: as the policy says, or what is on offer if it says nothing."""
    if isinstance(policy, Foresight):
        return policy.likely(view)[:FORECAST_MAX]
    return on_offer(catalogue, growth, view, view.max_params - view.params)


def on_offer(
    catalogue: Catalogue,
    growth: GrowthConfig,
    view: GrowthView,
    allotment: int,
    first: Sequence[str] = (),
) -> tuple[Candidate, ...]:
    """Blueprints on offer at each free site, as large as the allotment lets them be; those named come first,
    in the order in which they are named.

    At most `FORECAST_MAX` of them: to size a blueprint takes a moment.
    """
    sites = [one.site for one in view.sites if one.free]
    kinds = offered(catalogue, sites, growth, allotment, view)
    ranks = {blueprint_id: rank for rank, blueprint_id in enumerate(first)}
    ordered = sorted(kinds, key=lambda kind: ranks.get(kind.blueprint_id, len(ranks)))
    placed = (fitted(kind, site, allotment) for kind in ordered for site in sites)
    return tuple(islice((one for one in placed if one is not None), FORECAST_MAX))
