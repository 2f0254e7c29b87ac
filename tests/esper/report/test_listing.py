"""The list of blueprints says of each what a user has to know before he opens it to growth."""

import pytest

from contracts.growth import Layout, SiteInfo
from esper.karn.catalogue import CATALOGUE
from esper.karn.query import Query
from esper.report.listing import listed, site_of, text

SITE = SiteInfo("relu1", Layout.SEQUENCE, (4, 19), 4, 0)


def shown(site: SiteInfo | None) -> list[str]:
    return text(listed(CATALOGUE.describe(Query(site=site))))


def test_every_blueprint_is_listed_with_its_layouts_and_what_it_needs() -> None:
    lines = shown(None)
    assert len(lines) == 2 * len(CATALOGUE)
    about = dict(zip(lines[::2], lines[1::2], strict=True))
    found = {line.split()[0]: (line, told) for line, told in about.items()}
    assert all(one.descriptor.description in found[one.blueprint_id][1] for one in CATALOGUE)
    assert "parameters" not in found["BP003"][0]
    assert found["BP003"][0].endswith("vector sequence image tokens")
    assert "experimental" in found["BP036"][0]
    assert found["BP036"][1].endswith("""Needs --set 'growth.approved=["BP036"]' --set growth.max_stage=4.""")
    assert found["BP046"][1].endswith("Needs a drill.")


def test_at_a_site_only_what_grows_there_is_listed_with_what_its_smallest_form_costs() -> None:
    squeeze = CATALOGUE.get("BP007")
    assert any(line.startswith("BP007") for line in shown(SITE))
    (line,) = (one for one in listed(CATALOGUE.describe(Query(site=SITE))) if one.blueprint_id == "BP007")
    assert line.params == squeeze.params(SITE, squeeze.smallest()) == 13
    assert line.flops == squeeze.forward_flops(SITE, squeeze.smallest())
    assert "13 parameters" in text([line])[0]
    head = SiteInfo("head", Layout.VECTOR, (4,), 4, 0)
    assert not any(line.startswith("BP007") for line in shown(head))


def test_a_site_is_told_by_layout_and_shape() -> None:
    assert site_of(None, None) is None
    assert site_of(Layout.IMAGE, None) is None
    tokens = site_of(Layout.TOKENS, (7, 5))
    assert tokens is not None
    assert (tokens.shape, tokens.channels) == ((7, 5), 5)
    with pytest.raises(ValueError, match="give --layout"):
        site_of(None, (4, 19))
