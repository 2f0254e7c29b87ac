"""Which blueprints may be grown here: what a policy asks the catalogue, and the index that answers.

    trusted    SAFE: for everybody
    approved   EXPERIMENTAL, or its descriptor asks for approval: only those whose ids the query names
    drill      HIGH_RISK, or for quarantine only: only with a drill's permission, whatever else the query says

The answer is in the order of curriculum stage, then risk, then id: what to try first comes first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint, check_shape, is_dangerous
from esper.karn.permission import DrillPermission

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
    drill: DrillPermission | None = None
    """The permission of the drill that asks: high-risk blueprints may be answers too."""

    def __post_init__(self) -> None:
        if self.site is None and (self.max_params is not None or self.max_flops is not None):
            raise ValueError("max_params and max_flops need a site: costs are counted for its shape")
        if self.site is not None and self.layout not in (None, self.site.layout):
            raise ValueError(f"site {self.site.name} is a {self.site.layout}, no {self.layout}")


class Description(NamedTuple):
    """What there is to know of a blueprint; nothing can be built from it."""

    about: BlueprintDescriptor
    layouts: frozenset[Layout]
    tags: tuple[str, ...]
    cost: Cost | None
    """At the site that was asked about; None if none was."""


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
            return tuple(
                [one.blueprint for one in self._known(query) if _trusted(one, query) and _asked(one, query)]
            )
        return tuple(
            [
                one.blueprint
                for one, cost in zip(self._known(query), self._costs_at(query.site), strict=True)
                if cost is not None and _trusted(one, query) and _asked(one, query) and _within(cost, query)
            ]
        )

    def describe(self, query: Query) -> tuple[Description, ...]:
        """What the answers would be if everybody were trusted with everything; in the same order.

        Raises:
            BlueprintError: the query's site is not what its layout says.
        """
        if query.site is None:
            return tuple(_described(one, None) for one in self._known(query) if _asked(one, query))
        costs = zip(self._known(query), self._costs_at(query.site), strict=True)
        return tuple(
            _described(one, cost)
            for one, cost in costs
            if cost is not None and _asked(one, query) and _within(cost, query)
        )

    def _known(self, query: Query) -> tuple[_Entry, ...]:
        layout = query.layout if query.site is None else query.site.layout
        return self._all if layout is None else self._by_layout[layout]

    def get_ready(self, sites: Iterable[SiteInfo]) -> None:
        """Count the costs at these sites now, so that no query has to wait for that.

        Raises:
            BlueprintError: one of them is not what its layout says.
        """
        for site in sites:
            self._costs_at(site)

    def _costs_at(self, site: SiteInfo) -> tuple[Cost | None, ...]:
        check_shape(site)
        return self._costs(site.layout, site.shape, site.channels)

    def _count(self, layout: Layout, shape: tuple[int, ...], channels: int) -> tuple[Cost | None, ...]:
        """Costs of all blueprints of this layout; None for one that can't grow at this size."""
        site = SiteInfo("", layout, shape, channels, depth=0)
        return tuple(_cost(one.blueprint, site) for one in self._by_layout[layout])


def stated_order(blueprint: Blueprint) -> tuple[int, float, str]:
    """What answers are sorted by: curriculum stage, risk, id."""
    about = blueprint.descriptor
    return about.stage, about.risk, about.blueprint_id


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


def _described(entry: _Entry, cost: Cost | None) -> Description:
    return Description(entry.about, entry.blueprint.layouts, entry.blueprint.tags, cost)


def _cost(blueprint: Blueprint, site: SiteInfo) -> Cost | None:
    if blueprint.refusal(site):
        return None
    return blueprint.costs(site, blueprint.smallest())


def _trusted(entry: _Entry, query: Query) -> bool:
    """A blueprint that is not simply trusted needs the query to say so."""
    if entry.dangerous:
        return query.drill is not None
    return not entry.needs_approval or entry.about.blueprint_id in query.approved


def _asked(entry: _Entry, query: Query) -> bool:
    about = entry.about
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
