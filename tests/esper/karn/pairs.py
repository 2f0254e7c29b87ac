"""Every blueprint with every layout that it claims, and modules of them as tests need them.

High-risk blueprints misbehave on purpose: only the safe and the experimental ones make promises.
"""

import copy
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from contracts.blueprint import BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.catalogue import CATALOGUE
from tests import strategies

SITES = {
    Layout.VECTOR: SiteInfo("head", Layout.VECTOR, (6,), 6, 0),
    Layout.SEQUENCE: SiteInfo("conv", Layout.SEQUENCE, (4, 9), 4, 0),
    Layout.IMAGE: SiteInfo("conv2d", Layout.IMAGE, (3, 5, 4), 3, 0),
    Layout.TOKENS: SiteInfo("block", Layout.TOKENS, (7, 5), 5, 0),
}
TRUSTED = [one for one in CATALOGUE if one.descriptor.tier is not BlueprintTier.HIGH_RISK]
Sized: TypeAlias = tuple[Blueprint, SiteInfo, dict[str, float]]
BLUEPRINTS = [pytest.param(one, id=one.blueprint_id) for one in CATALOGUE]


def pairs(*quick: str) -> list[Any]:
    """Each trusted blueprint with each of its layouts; all but those with an id in `quick` are slow tests."""
    found = []
    for blueprint in TRUSTED:
        for layout in sorted(blueprint.layouts):
            name = f"{blueprint.blueprint_id}-{layout}"
            marks = () if not quick or name in quick else pytest.mark.slow
            found.append(pytest.param(blueprint, SITES[layout], id=name, marks=marks))
    return found


PAIRS = pairs()


@st.composite
def offers(draw: st.DrawFn, blueprints: st.SearchStrategy[Blueprint]) -> tuple[Blueprint, SiteInfo]:
    """A blueprint at a site of any size that it claims."""
    blueprint = draw(blueprints)
    return blueprint, draw(strategies.sites(st.sampled_from(sorted(blueprint.layouts))))


@st.composite
def sized(draw: st.DrawFn, blueprints: st.SearchStrategy[Blueprint]) -> Sized:
    """A blueprint at a site with any small settings."""
    blueprint, site = draw(offers(blueprints))
    chosen = {}
    for name, bounds in blueprint.descriptor.allowed_parameters.items():
        most = blueprint.largest(site) if name == blueprint.knob else bounds.max_value
        low = int(bounds.min_value)
        chosen[name] = float(draw(st.integers(low, int(min(most, low + 4)))))
    return blueprint, site, chosen


ANY_OFFER = offers(st.sampled_from(TRUSTED))
ANY_SIZED = sized(st.sampled_from(TRUSTED))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settings_of(blueprint: Blueprint, site: SiteInfo, max_params: int = 200) -> dict[str, float]:
    """The largest settings with so many parameters; the smallest if they have more."""
    return blueprint.fit(site, max_params) or blueprint.smallest()


def built(blueprint: Blueprint, site: SiteInfo, seed: int = 0, max_params: int = 200) -> nn.Module:
    return blueprint.build(site, settings_of(blueprint, site, max_params), generator(seed))


def taught(module: nn.Module, seed: int = 1) -> nn.Module:
    """The module as it might be after training: no parameter where it started."""
    module = copy.deepcopy(module)
    stream = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.empty_like(parameter).uniform_(-0.6, 0.6, generator=stream))
    return module


def batch(site: SiteInfo, examples: int = 3, seed: int = 2) -> Tensor:
    return torch.randn(examples, *site.shape, generator=generator(seed))
