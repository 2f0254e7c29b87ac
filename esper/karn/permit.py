"""Whether a design may be made at all: the question that Karn answers to whoever wants a kernel."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import nn

from contracts.growth import Candidate, SiteInfo
from contracts.kernels import Design, design_of
from esper.karn.blueprint import BlueprintError, is_dangerous
from esper.karn.catalogue import Catalogue, UnknownBlueprint
from esper.karn.query import Query

Build: TypeAlias = Callable[[SiteInfo, Candidate, torch.Generator], nn.Module]


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


def builder(
    catalogue: Catalogue,
    approved: frozenset[str],
    left_out: Callable[[], Mapping[str, str]] = dict,
) -> Build:
    """What builds candidates for a probe: only what may be made, as for a graft, and is not left out.

    It raises BlueprintError with the reason for what may not.
    """

    def build(site: SiteInfo, candidate: Candidate, generator: torch.Generator) -> nn.Module:
        why = refusal(catalogue, design_of(site, candidate.blueprint_id, candidate.parameters), approved)
        why = why or left_out().get(candidate.blueprint_id, "")
        if why:
            raise BlueprintError(why)
        return catalogue.build(site, candidate, generator)

    return build
