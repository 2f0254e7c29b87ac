"""What a run's configuration lets its policy grow."""

from collections.abc import Iterable

from contracts.config import GrowthConfig
from contracts.growth import GrowthView, SiteInfo
from esper.karn.blueprint import Blueprint, is_dangerous
from esper.karn.catalogue import Catalogue, UnknownBlueprint
from esper.karn.query import Query, stated_order


class NotGrown(ValueError):
    """The configuration approves of a blueprint that could not be grown; the message says why."""


def offered(
    catalogue: Catalogue,
    sites: Iterable[SiteInfo],
    growth: GrowthConfig,
    max_params: int,
    view: GrowthView | None = None,
) -> tuple[Blueprint, ...]:
    """Blueprints that at least one of the sites takes within `max_params`, in the order of a query.

    As growth stands in `view`: without those that could not be compiled, and in conservative mode only those
    of the lowest risk.
    """
    found: set[Blueprint] = set()
    approved = frozenset(growth.approved)
    for site in sites:
        query = Query(
            site=site,
            max_params=max_params,
            max_stage=growth.max_stage,
            approved=approved,
            conservative=view is not None and view.conservative,
        )
        found.update(catalogue.query(query))
    left_out = view.left_out if view is not None else frozenset()
    return tuple(sorted((one for one in found if one.blueprint_id not in left_out), key=stated_order))


def check_approved(catalogue: Catalogue, growth: GrowthConfig) -> None:
    """See that each blueprint that the configuration approves of is one that it also puts on offer.

    Raises:
        NotGrown: one is unknown, for drills alone, or of a later stage.
    """
    for blueprint_id in growth.approved:
        try:
            about = catalogue.get(blueprint_id).descriptor
        except UnknownBlueprint as error:
            raise NotGrown(f"growth.approved: {error}") from None
        label = f"growth.approved: {about.blueprint_id} ({about.name})"
        if is_dangerous(about):
            raise NotGrown(f"{label} is grown in drills alone; leave it out")
        if about.stage > growth.max_stage:
            raise NotGrown(f"{label} is of stage {about.stage}; it takes growth.max_stage={about.stage}")
