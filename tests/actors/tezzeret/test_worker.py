"""Claims about the process that makes kernels, from inside: what it makes, and of whose blueprints."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.tezzeret.orders import Order, decode_delivery, encode_order
from actors.tezzeret.sandbox import Answer
from actors.tezzeret.worker import Forbidden, forging
from contracts.growth import Layout
from contracts.kernels import Design, KernelSpec, Strategy
from esper.karn.catalogue import CATALOGUE, Catalogue, UnknownBlueprint
from esper.karn.source import NotImportable, Source, gathered, source_of
from esper.tezzeret.forge import Forged, build, unexamined
from esper.urza.weights import weights_of
from tests.esper.karn.own import imports_forgotten, write_places

OWN = KernelSpec(Design("BP051", Layout.VECTOR, (4,), 4), 7)
KARNS = KernelSpec(Design("BP008", Layout.VECTOR, (4,), 4, {"width": 2.0}), 7)


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    with imports_forgotten():
        yield


def made(spec: KernelSpec, source: Source | None, catalogue: Catalogue) -> Forged:
    """What comes back for an order, as whoever ordered it judges it."""
    order = Order(spec, Strategy.EMERGENCY, source)
    answer = Answer(*forging(CATALOGUE)(encode_order(order), b"", lambda progress: None))
    return decode_delivery(answer, unexamined(spec.design, Strategy.EMERGENCY, catalogue))


def test_a_blueprint_of_ones_own_is_imported_and_made_with_the_very_bits(tmp_path: Path) -> None:
    own = Catalogue([*CATALOGUE, *gathered([str(write_places(tmp_path, "own_made"))])])
    forged = made(OWN, source_of(own.get("BP051")), own)
    assert forged.weights == weights_of(build(OWN, own))
    assert made(KARNS, None, own).weights == weights_of(build(KARNS, CATALOGUE))


def test_without_its_source_a_blueprint_of_ones_own_is_not_known() -> None:
    with pytest.raises(UnknownBlueprint):
        made(OWN, None, CATALOGUE)


def test_a_source_that_is_gone_is_said(tmp_path: Path) -> None:
    file = tmp_path / "own_gone.py"
    with pytest.raises(NotImportable, match=r"own_gone\.py can't be imported"):
        made(OWN, Source("own_gone", "Places", str(tmp_path), str(file)), CATALOGUE)


def test_a_dangerous_blueprint_is_not_made_whatever_source_is_named() -> None:
    spec = KernelSpec(Design("BP046", Layout.VECTOR, (4,), 4, {"onset": 0.0}), 7)
    for source in (None, source_of(CATALOGUE.get("BP046"))):
        with pytest.raises(Forbidden, match="drills alone"):
            made(spec, source, CATALOGUE)
