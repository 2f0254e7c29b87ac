"""The catalogue finds blueprints, in a stated order, and says what it does not have."""

import pytest

from contracts.growth import Layout
from esper.karn.blueprints.identity import Identity
from esper.karn.catalogue import CATALOGUE, Catalogue, UnknownBlueprint


def test_its_ids_are_numbered_without_gaps_and_in_order() -> None:
    ids = [blueprint.blueprint_id for blueprint in CATALOGUE]
    assert ids == [f"BP{number:03}" for number in range(1, len(CATALOGUE) + 1)]
    assert len(ids) >= 8


def test_no_two_blueprints_are_the_same_design() -> None:
    assert len({blueprint.descriptor.name for blueprint in CATALOGUE}) == len(CATALOGUE)
    assert len({type(blueprint) for blueprint in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("layout", Layout)
def test_it_offers_exactly_what_grows_on_a_layout_in_its_own_order(layout: Layout) -> None:
    offered = CATALOGUE.offers(layout)
    assert list(offered) == [blueprint for blueprint in CATALOGUE if layout in blueprint.layouts]
    assert offered


def test_get_finds_by_id() -> None:
    assert CATALOGUE.get("BP003").descriptor.name == "gated linear unit"


def test_an_unknown_id_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownBlueprint, match="no blueprint 'BP03'; the nearest ids are BP003") as refusal:
        CATALOGUE.get("BP03")
    assert isinstance(refusal.value, KeyError)
    with pytest.raises(UnknownBlueprint, match="the catalogue is empty"):
        Catalogue(()).get("BP001")


def test_two_blueprints_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="two blueprints have the id BP001"):
        Catalogue((Identity(), Identity()))
