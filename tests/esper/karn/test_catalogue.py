"""The catalogue finds blueprints by id, and says what it does not have."""

import pytest

from contracts.blueprint import BlueprintTier
from contracts.growth import Layout
from esper.karn.blueprints.identity import Identity
from esper.karn.catalogue import CATALOGUE, Catalogue, UnknownBlueprint

TIERS = {
    BlueprintTier.SAFE: range(1, 36),
    BlueprintTier.EXPERIMENTAL: range(36, 43),
    BlueprintTier.HIGH_RISK: range(43, 51),
}


def test_it_has_fifty_blueprints_in_the_order_of_their_ids_and_then_your_own() -> None:
    ids = [one.blueprint_id for one in CATALOGUE]
    assert ids[:50] == [f"BP{number:03}" for number in range(1, 51)]
    assert ids == sorted(ids)


@pytest.mark.parametrize("tier", TIERS)
def test_the_ids_of_a_tier_are_together(tier: BlueprintTier) -> None:
    ids = [one.blueprint_id for one in list(CATALOGUE)[:50] if one.descriptor.tier is tier]
    assert ids == [f"BP{number:03}" for number in TIERS[tier]]


def test_no_two_blueprints_are_the_same_design() -> None:
    assert len({blueprint.descriptor.name for blueprint in CATALOGUE}) == len(CATALOGUE)
    assert len({blueprint.descriptor.description for blueprint in CATALOGUE}) == len(CATALOGUE)
    assert len({type(blueprint) for blueprint in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("layout", Layout)
def test_every_layout_has_safe_and_experimental_blueprints(layout: Layout) -> None:
    tiers = {one.descriptor.tier for one in CATALOGUE if layout in one.layouts}
    assert tiers >= {BlueprintTier.SAFE, BlueprintTier.EXPERIMENTAL}


def test_get_finds_by_id() -> None:
    assert CATALOGUE.get("BP003").descriptor.name == "gated linear unit"


def test_an_unknown_id_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownBlueprint, match="no blueprint 'BP003x'; the nearest ids are BP003") as refusal:
        CATALOGUE.get("BP003x")
    assert isinstance(refusal.value, KeyError)
    with pytest.raises(UnknownBlueprint, match="the catalogue is empty"):
        Catalogue(()).get("BP001")


def test_two_blueprints_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="two blueprints have the id BP001"):
        Catalogue((Identity(), Identity()))
