"""Whether a design may be made at all: the question that Karn answers to whoever wants a kernel."""

from contracts.kernels import Design
from esper.karn.blueprint import BlueprintError
from esper.karn.catalogue import Catalogue, UnknownBlueprint
from esper.karn.query import Query, is_dangerous


def refusal(catalogue: Catalogue, design: Design, approved: frozenset[str]) -> str:
    """Why `design` may not be made where these experimental blueprints are approved; empty if it may."""
    try:
        blueprint = catalogue.get(design.blueprint_id)
        blueprint.check(design.site, design.parameters)
    except (UnknownBlueprint, BlueprintError) as error:
        return str(error)
    if blueprint in catalogue.query(Query(site=design.site, approved=approved)):
        return ""
    about = blueprint.descriptor
    label = f"{about.blueprint_id} ({about.name})"
    if is_dangerous(about):
        return f"{label} is grown in drills alone"
    return f"{label} is {about.tier.name.lower()} and needs approval: name it in growth.approved"
