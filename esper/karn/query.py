"""Which blueprints may be grown here: what a policy asks the catalogue, and the index that answers.

    trusted    SAFE: for everybody
    approved   EXPERIMENTAL, or its descriptor asks for approval: only those whose ids the query names
    drill      HIGH_RISK, or for quarantine only: only for a drill, whatever else the query says

The answer is in the order of curriculum stage, then risk, then id: what to try first comes first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint

CONSERVATIVE_RISK_MAX = 0.1
"""The lowest-risk pool: safe blueprints of at most this risk."""
EVERY_TIER = frozenset((BlueprintTier.SAFE, BlueprintTier.EXPERIMENTAL, BlueprintTier.HIGH_RISK))
SHAPES_MAX = 256
"""Site shapes whose costs are kept; a network's sites have few."""

Cost: TypeAlias = tuple[int, int]
"""Parameters, and FLOPs of one example's forward pass, of a blueprint's smallest form."""


@dataclass(frozen=True)
class Query:
    """Everything that an answer has to satisfy; None and empty ask for nothing.

    With a site, only what can grow there at all is an answer. Budgets are for the blueprint's smallest
    form at that site; `Blueprint.fit` then says how large it may be.

    Raises:
        ValueError: a budget without a site to count it at, or a site of another layout than asked for.
    """

    layout: Layout | None = None
    site: SiteInfo | None = None
    max_params: int | None = None
    max_flops: int | None = None
    tiers: frozenset[BlueprintTier] = EVERY_TIER
    max_risk: float | None = None
    max_stage: int | None = None
    tags: tuple[str, ...] = ()
    """An answer has all of them."""
    conservative: bool = False
    """Only safe ones of at most `CONSERVATIVE_RISK_MAX`."""
    approved: frozenset[str] = frozenset()
    """Ids of the experimental blueprints that may be answers."""
    drill: bool = False
    """High-risk blueprints may be answers too."""

    def __post_init__(self) -> None:
        if self.site is None and (self.max_params is not None or self.max_flops is not None):
            raise ValueError("max_params and max_flops need a site: costs are counted for its shape")
        if self.site is not None and self.layout not in (None, self.site.layout):
            raise ValueError(f"site {self.site.name} is a {self.site.layout}, not a {self.layout}")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A blueprint and what queries ask about it, read once."""

    blueprint: Blueprint
    about: BlueprintDescriptor
    tags: frozenset[str]
    dangerous: bool
    needs_approval: bool
    lowest_risk: bool


class Index:
    """Blueprints by layout, sorted once; costs are counted once for each shape of site."""

    def __init__(self, blueprints: Iterable[Blueprint]) -> None:
        self._all = tuple(_entry(one) for one in sorted(blueprints, key=stated_order))
        self._by_layout = {
            layout: tuple(one for one in self._all if layout in one.blueprint.layouts) for layout in Layout
        }
        self._costs = lru_cache(SHAPES_MAX)(self._count)

    def find(self, query: Query) -> tuple[Blueprint, ...]:
        """All answers, in the order of stage, risk and id.

        Raises:
            BlueprintError: the query's site is not what its layout says.
        """
        if query.site is None:
            known = self._all if query.layout is None else self._by_layout[query.layout]
            return tuple([one.blueprint for one in known if _allowed(one, query)])
        site = query.site
        costs = self._costs(site.layout, site.shape, site.channels)
        return tuple(
            [
                one.blueprint
                for one, cost in zip(self._by_layout[site.layout], costs, strict=True)
                if cost is not None and _allowed(one, query) and _within(cost, query)
            ]
        )

    def _count(self, layout: Layout, shape: tuple[int, ...], channels: int) -> tuple[Cost | None, ...]:
        """Costs of all blueprints of this layout; None for one that can't grow at this size."""
        site = SiteInfo("", layout, shape, channels, depth=0)
        return tuple(_cost(one.blueprint, site) for one in self._by_layout[layout])


def stated_order(blueprint: Blueprint) -> tuple[int, float, str]:
    """What answers are sorted by: curriculum stage, risk, id."""
    about = blueprint.descriptor
    return about.stage, about.risk, about.blueprint_id


def is_dangerous(about: BlueprintDescriptor) -> bool:
    """For drills alone, whoever asks."""
    return about.tier is BlueprintTier.HIGH_RISK or about.quarantine_only


def _entry(blueprint: Blueprint) -> _Entry:
    about = blueprint.descriptor
    safe = about.tier is BlueprintTier.SAFE
    return _Entry(
        blueprint,
        about,
        tags=frozenset(blueprint.tags),
        dangerous=is_dangerous(about),
        needs_approval=about.approval_required or about.tier is BlueprintTier.EXPERIMENTAL,
        lowest_risk=safe and about.risk <= CONSERVATIVE_RISK_MAX and not is_dangerous(about),
    )


def _cost(blueprint: Blueprint, site: SiteInfo) -> Cost | None:
    if blueprint.refusal(site):
        return None
    smallest = blueprint.smallest()
    return blueprint.params(site, smallest), blueprint.forward_flops(site, smallest)


def _allowed(entry: _Entry, query: Query) -> bool:
    """Trust first: a blueprint that is not simply trusted needs the query to say so."""
    about = entry.about
    if entry.dangerous:
        if not query.drill:
            return False
    elif entry.needs_approval and about.blueprint_id not in query.approved:
        return False
    return (
        about.tier in query.tiers
        and (query.max_stage is None or about.stage <= query.max_stage)
        and (query.max_risk is None or about.risk <= query.max_risk)
        and (entry.lowest_risk or not query.conservative)
        and (not query.tags or entry.tags.issuperset(query.tags))
    )


def _within(cost: Cost, query: Query) -> bool:
    params, flops = cost
    return (query.max_params is None or params <= query.max_params) and (
        query.max_flops is None or flops <= query.max_flops
    )
