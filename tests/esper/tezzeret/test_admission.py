"""Nothing is begun that may not be made, or that no store could take."""

import pytest

from contracts.growth import Layout
from contracts.kernels import Design
from esper.karn.catalogue import CATALOGUE
from esper.tezzeret.admission import is_refused_everywhere, refusal
from esper.urza.container import ARTIFACT_BYTES_MAX

EXPERT = Design("BP036", Layout.VECTOR, (8,), 8, {"width": 2.0, "experts": 3.0})


def test_what_is_trusted_is_made_and_what_needs_approval_only_with_it() -> None:
    assert refusal(CATALOGUE, Design("BP001", Layout.VECTOR, (4,), 4), frozenset()) == ""
    assert "needs approval" in refusal(CATALOGUE, EXPERT, frozenset())
    assert refusal(CATALOGUE, EXPERT, frozenset({"BP036"})) == ""
    assert not is_refused_everywhere(CATALOGUE, EXPERT)


@pytest.mark.parametrize("number", range(43, 51))
def test_high_risk_is_refused_everywhere_whatever_is_approved(number: int) -> None:
    blueprint = CATALOGUE.get(f"BP{number:03}")
    design = Design(blueprint.blueprint_id, Layout.VECTOR, (8,), 8, blueprint.smallest())
    assert "drills alone" in refusal(CATALOGUE, design, frozenset({blueprint.blueprint_id}))
    assert is_refused_everywhere(CATALOGUE, design)


def test_a_kernel_larger_than_the_largest_artifact_is_refused_without_building_it() -> None:
    fits, largest = 3, ARTIFACT_BYTES_MAX
    small = Design("BP009", Layout.VECTOR, (fits,), fits)
    for channels in (6_000, 12_000, 2**40):
        huge = Design("BP009", Layout.VECTOR, (channels,), channels)
        assert f"a kernel may have {largest:,}" in refusal(CATALOGUE, huge, frozenset())
        assert is_refused_everywhere(CATALOGUE, huge)
    assert refusal(CATALOGUE, small, frozenset()) == ""


def test_what_no_catalogue_builds_is_refused_everywhere() -> None:
    unknown = Design("BP999", Layout.VECTOR, (4,), 4)
    assert "no blueprint 'BP999'" in refusal(CATALOGUE, unknown, frozenset())
    assert is_refused_everywhere(CATALOGUE, unknown)
