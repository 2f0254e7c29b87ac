"""What may be made in a run, whoever wants it."""

import pytest
import torch
from torch import nn

from contracts.growth import Candidate, Layout, SiteInfo
from contracts.kernels import design_of
from esper.karn.blueprint import BlueprintError
from esper.karn.catalogue import CATALOGUE
from esper.karn.permit import builder, refusal

SITE = SiteInfo("head", Layout.SEQUENCE, (4, 9), 4, 0)
NOBODY: frozenset[str] = frozenset()


def refused(blueprint_id: str, parameters: dict[str, float], approved: frozenset[str] = NOBODY) -> str:
    return refusal(CATALOGUE, design_of(SITE, blueprint_id, parameters), approved)


def test_a_safe_design_may_be_made() -> None:
    assert refused("BP003", {"width": 2.0}) == ""


EXPERIMENTAL = [
    one.blueprint_id for one in CATALOGUE if one.descriptor.approval_required and SITE.layout in one.layouts
]


@pytest.mark.parametrize("blueprint_id", EXPERIMENTAL)
def test_an_experimental_one_needs_its_own_approval(blueprint_id: str) -> None:
    one = CATALOGUE.get(blueprint_id)
    smallest = {name: float(value) for name, value in one.smallest().items()}
    others = frozenset(EXPERIMENTAL) - {blueprint_id}
    assert "needs approval" in refused(one.blueprint_id, smallest, others)
    assert refused(one.blueprint_id, smallest, frozenset({one.blueprint_id})) == ""


@pytest.mark.parametrize("number", range(43, 51))
def test_no_approval_lets_a_dangerous_one_be_made(number: int) -> None:
    one = CATALOGUE.get(f"BP{number:03}")
    smallest = {name: float(value) for name, value in one.smallest().items()}
    everything = frozenset(each.blueprint_id for each in CATALOGUE)
    assert refused(one.blueprint_id, smallest, everything)


@pytest.mark.parametrize(
    ("blueprint_id", "parameters", "said"),
    [("BP999", {}, "there is no blueprint"), ("BP003", {}, "settings"), ("BP003", {"width": 0.0}, "width")],
)
def test_what_can_not_be_built_is_refused_with_what_would_work(
    blueprint_id: str, parameters: dict[str, float], said: str
) -> None:
    assert said in refused(blueprint_id, parameters)


def test_a_probe_builds_nothing_that_may_not_be_grown() -> None:
    site, drawn = SITE, torch.Generator().manual_seed(0)
    build = builder(CATALOGUE, NOBODY)
    assert isinstance(build(site, Candidate("head", "BP003", {"width": 2.0}), drawn), nn.Module)
    state = drawn.get_state()
    smallest = {name: float(value) for name, value in CATALOGUE.get("BP036").smallest().items()}
    for candidate in (Candidate("head", "BP036", smallest), Candidate("head", "BP046", {"onset": 0.0})):
        with pytest.raises(BlueprintError):
            build(site, candidate, drawn)
    assert torch.equal(drawn.get_state(), state)
    assert builder(CATALOGUE, frozenset({"BP036"}))(site, Candidate("head", "BP036", smallest), drawn)
