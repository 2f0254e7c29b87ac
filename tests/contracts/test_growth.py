"""Claims about what a view of growth says of its seeds."""

from msgspec.structs import replace

from contracts.growth import SiteView
from contracts.lifecycle import Stage
from tests.esper.tamiyo.views import SITES, seed, view


def test_all_seeds_come_site_by_site_fossils_first() -> None:
    first, second = SITES
    fossil, growing = seed(Stage.FOSSILIZED), seed(Stage.TRAINING)
    elsewhere = seed(Stage.FOSSILIZED, second.name)
    sites = (SiteView(first, (fossil,), growing), SiteView(second, (elsewhere,)))
    assert [site.seeds for site in sites] == [(fossil, growing), (elsewhere,)]
    assert replace(view(), sites=sites).seeds == (fossil, growing, elsewhere)


def test_a_site_where_nothing_grew_has_no_seeds() -> None:
    assert SiteView(SITES[0]).seeds == ()
