"""What enters a probe: the plan, looked at whole, and each contender's modules, built before any fork is."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec
import torch
from torch import nn

from contracts.growth import Candidate, Contender, ProbePlan, SiteInfo
from esper.karn.blueprint import BlueprintError
from esper.karn.catalogue import UnknownBlueprint
from esper.tolaria.errors import PlanRefused
from esper.tolaria.fork import Build
from esper.tolaria.randomness import untouched_streams

Entry: TypeAlias = tuple[tuple[SiteInfo, nn.Module], ...]
"""A contender's modules, each with its site."""


def checked(plan: object, sites: Mapping[str, SiteInfo]) -> ProbePlan:
    """The plan, if it is one that can be carried out at `sites`.

    Raises:
        PlanRefused: it is not; the message says what would work.
    """
    if not isinstance(plan, ProbePlan):
        raise PlanRefused(f"a probe takes a ProbePlan, not a {type(plan).__name__}")
    try:
        msgspec.convert(msgspec.to_builtins(plan), ProbePlan)  # a struct is made without a look at its types
    except (msgspec.ValidationError, TypeError) as error:
        raise PlanRefused(f"the probe plan holds a value of the wrong type: {error}") from error
    flaw = _flaw(plan) or next(filter(None, (_misfit(one, sites) for one in plan.contenders)), "")
    if flaw:
        raise PlanRefused(f"probe {plan.probe_id} {flaw}")
    return plan


def build_entries(
    plan: ProbePlan,
    sites: Mapping[str, SiteInfo],
    build: Build,
    stream_of: Callable[[Candidate], torch.Generator],
) -> list[Entry]:
    """The modules of every contender of a checked plan; torch's global stream is left as it was.

    Raises:
        PlanRefused: a blueprint is not known, or does not take its settings or its site's layout.
    """

    def built(graft: Candidate) -> tuple[SiteInfo, nn.Module]:
        site = sites[graft.site]
        try:
            return site, build(site, graft, stream_of(graft))
        except (UnknownBlueprint, BlueprintError) as error:
            raise PlanRefused(f"probe {plan.probe_id} can't grow at {site.name}: {error}") from error

    with untouched_streams():
        return [tuple(built(graft) for graft in one.grafts) for one in plan.contenders]


def _flaw(plan: ProbePlan) -> str:
    """What is wrong with the plan wherever it is to be carried out; empty if nothing is."""
    if not plan.contenders:
        return "has no contenders; it needs at least one"
    if not plan.rounds:
        return "has no rounds; it needs at least one"
    for round_ in plan.rounds:
        if round_.steps < 1 or round_.keep < 1:
            return f"has a round of {round_.steps} steps that keeps {round_.keep}; both are at least 1"
    if not 0.0 < plan.rate_multiplier < float("inf"):
        return f"has the rate multiplier {plan.rate_multiplier:g}; it has to be finite and above 0"
    if plan.validation_examples < 0:
        return f"is scored on {plan.validation_examples} validation examples; 0 is all of them"
    return ""


def _misfit(contender: Contender, sites: Mapping[str, SiteInfo]) -> str:
    """Why the contender has no place at `sites`; empty if it has one."""
    named = [graft.site for graft in contender.grafts]
    if not named:
        return "has a contender without grafts; the ungrown control is there anyway"
    unknown = sorted(set(named) - sites.keys())
    if unknown:
        return f"names {', '.join(unknown)}; the sites are {', '.join(sites)}"
    if len(set(named)) < len(named):
        return f"has a contender with two grafts at one site ({', '.join(named)}); give it one a site"
    return ""
