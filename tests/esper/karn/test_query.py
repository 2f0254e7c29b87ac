"""The catalogue answers a query with everything that it allows, in the stated order, and nothing else."""

from dataclasses import replace as replace_dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.blueprint import BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint, BlueprintError
from esper.karn.blueprints.identity import Identity
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.permission import DrillPermission
from esper.karn.query import CONSERVATIVE_RISK_MAX, EVERY_TIER, Query
from tests import strategies
from tests.esper.karn.counting import Counting
from tests.esper.karn.pairs import SITES


class Safe(Identity):
    tags: ClassVar[tuple[str, ...]] = ("scale", "small")


class Later(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP900", stage=2, risk=0.01)


class Experimental(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP901", tier=BlueprintTier.EXPERIMENTAL, stage=4)


class OnApproval(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP902", approval_required=True, stage=0)


class HighRisk(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP903", tier=BlueprintTier.HIGH_RISK, risk=1.0)


class QuarantineOnly(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP904", quarantine_only=True, risk=0.0)


class Unstated(Identity):
    descriptor = replace(Identity.descriptor, blueprint_id="BP905", tier=BlueprintTier.UNSPECIFIED)


class Picky(Identity):
    """Grows on nothing smaller than two channels."""

    descriptor = replace(Identity.descriptor, blueprint_id="BP906")

    def refusal(self, site: SiteInfo) -> str:
        return "" if site.channels >= 2 else "needs two channels"


EVERY_KIND = Catalogue(
    (Safe(), Later(), Experimental(), OnApproval(), HighRisk(), QuarantineOnly(), Unstated(), Picky())
)
SITE = SITES[Layout.SEQUENCE]
DRILL = DrillPermission()
LIMITS = st.none() | st.integers(0, 3_000)
APPROVED = frozenset({"BP036", "BP040", "BP901", "BP902", "BP903"})
QUERIES = st.builds(
    Query,
    site=strategies.sites(),
    max_params=LIMITS,
    max_flops=LIMITS,
    tiers=st.sets(st.sampled_from(sorted(EVERY_TIER))).map(frozenset),
    max_risk=st.none() | st.floats(0, 1),
    max_stage=st.none() | st.integers(0, 5),
    tags=st.sets(st.sampled_from(("scale", "norm", "attention", "gate")), max_size=2).map(tuple),
    conservative=st.booleans(),
    approved=st.sampled_from((frozenset(), APPROVED)),
    drill=st.sampled_from((None, DRILL)),
)


def ids(answers: tuple[Blueprint, ...]) -> list[str]:
    return [one.blueprint_id for one in answers]


def allowed(one: Blueprint, query: Query) -> bool:
    """What the docstring says, read literally."""
    about, site = one.descriptor, query.site
    assert site is not None
    dangerous = about.tier is BlueprintTier.HIGH_RISK or about.quarantine_only
    experimental = about.tier is BlueprintTier.EXPERIMENTAL or about.approval_required
    lowest = about.tier is BlueprintTier.SAFE and about.risk <= CONSERVATIVE_RISK_MAX
    fits = site.layout in one.layouts and not one.refusal(site)
    return (
        fits
        and about.tier in query.tiers
        and (query.drill is DRILL if dangerous else not experimental or about.blueprint_id in query.approved)
        and ((lowest and not dangerous) or not query.conservative)
        and (query.max_risk is None or about.risk <= query.max_risk)
        and (query.max_stage is None or about.stage <= query.max_stage)
        and (query.max_params is None or one.params(site, one.smallest()) <= query.max_params)
        and (query.max_flops is None or one.forward_flops(site, one.smallest()) <= query.max_flops)
        and all(tag in one.tags for tag in query.tags)
    )


@given(QUERIES, st.sampled_from((CATALOGUE, EVERY_KIND)))
@settings(max_examples=100)
def test_an_answer_is_everything_that_the_query_allows_by_stage_risk_and_id(
    query: Query, catalogue: Catalogue
) -> None:
    expected = [one for one in catalogue if allowed(one, query)]
    expected.sort(key=lambda one: (one.descriptor.stage, one.descriptor.risk, one.blueprint_id))
    assert list(catalogue.query(query)) == expected


@given(strategies.sites(), st.integers(0, 1_000))
@settings(max_examples=40)
def test_what_is_answered_within_a_parameter_budget_can_be_built_within_it(
    site: SiteInfo, max_params: int
) -> None:
    within = CATALOGUE.query(Query(site=site, max_params=max_params))
    assert all(one.fit(site, max_params) is not None for one in within)
    others = set(CATALOGUE.query(Query(site=site))) - set(within)
    assert all(one.fit(site, max_params) is None for one in others)


def test_a_query_that_asks_for_nothing_finds_what_is_trusted() -> None:
    assert ids(EVERY_KIND.query(Query())) == ["BP001", "BP906", "BP900"]
    safe = {one.blueprint_id for one in CATALOGUE if one.descriptor.tier is BlueprintTier.SAFE}
    assert set(ids(CATALOGUE.query(Query()))) == safe


@pytest.mark.parametrize("layout", Layout)
def test_a_layout_alone_finds_what_grows_on_it(layout: Layout) -> None:
    found = CATALOGUE.query(Query(layout=layout))
    assert found
    assert set(found) == {one for one in CATALOGUE.query(Query()) if layout in one.layouts}


def test_an_experimental_blueprint_needs_its_own_id_in_approved() -> None:
    assert "BP901" in ids(EVERY_KIND.query(Query(approved=frozenset({"BP901"}))))
    assert "BP902" in ids(EVERY_KIND.query(Query(approved=frozenset({"BP902"}))))
    neither = ids(EVERY_KIND.query(Query(approved=frozenset({"BP001"}), drill=DRILL)))
    assert not {"BP901", "BP902"} & set(neither)


def test_a_high_risk_blueprint_is_found_in_a_drill_alone() -> None:
    wide = Query(approved=frozenset(one.blueprint_id for one in EVERY_KIND), max_risk=1.0, max_stage=9)
    assert not {"BP903", "BP904"} & set(ids(EVERY_KIND.query(wide)))
    assert {"BP903", "BP904"} <= set(ids(EVERY_KIND.query(Query(drill=DRILL))))
    assert not {"BP903", "BP904"} & set(ids(EVERY_KIND.query(Query(drill=DRILL, conservative=True))))


def test_what_is_described_is_everything_that_would_be_found_with_all_trust_and_builds_nothing() -> None:
    for query in (Query(), Query(site=SITE, max_params=50), Query(layout=Layout.VECTOR, max_stage=2)):
        described = EVERY_KIND.describe(query)
        trusted = replace_dataclass(query, approved=frozenset(ids(tuple(EVERY_KIND))), drill=DRILL)
        found = EVERY_KIND.query(trusted)
        assert [one.about for one in described] == [one.descriptor for one in found]
        assert not any(isinstance(value, Blueprint) for one in described for value in one)
        costs = [one.costs(SITE, one.smallest()) if query.site else None for one in found]
        assert [one.cost for one in described] == costs
    assert {"BP903", "BP904"} <= {one.about.blueprint_id for one in EVERY_KIND.describe(Query())}


def test_at_sites_that_were_got_ready_no_query_counts_any_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "counted", 0)
    catalogue = Catalogue((Counting(),))
    catalogue.get_ready(SITES.values())
    assert Counting.counted == len(SITES)
    for site in SITES.values():
        assert ids(catalogue.query(Query(site=site, max_params=1_000))) == ["BP001"]
    assert Counting.counted == len(SITES)
    other = SiteInfo("other", Layout.VECTOR, (99,), 99, 0)
    assert ids(catalogue.query(Query(site=other, max_params=1_000))) == ["BP001"]
    assert Counting.counted == len(SITES) + 1


def test_a_blueprint_that_does_not_state_its_tier_is_never_found() -> None:
    wide = Query(drill=DRILL, approved=frozenset({"BP905"}))
    assert "BP905" not in ids(EVERY_KIND.query(wide))


def test_conservative_mode_leaves_something_to_grow_at_every_layout() -> None:
    for layout in Layout:
        pool = CATALOGUE.query(Query(layout=layout, conservative=True))
        assert pool
        assert len(pool) < len(CATALOGUE.query(Query(layout=layout)))


def test_a_blueprint_that_refuses_a_site_is_not_an_answer_there() -> None:
    one_channel = SiteInfo("thin", Layout.SEQUENCE, (1, 9), 1, 0)
    assert "BP906" in ids(EVERY_KIND.query(Query(site=SITE)))
    assert "BP906" not in ids(EVERY_KIND.query(Query(site=one_channel)))
    assert Picky().fit(one_channel, 100) is None
    with pytest.raises(BlueprintError, match=r"BP906 .* needs two channels"):
        Picky().params(one_channel, {})


def test_a_query_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="need a site"):
        Query(max_params=3)
    with pytest.raises(ValueError, match="need a site"):
        Query(layout=Layout.IMAGE, max_flops=3)
    with pytest.raises(ValueError, match="site conv is a sequence, no image"):
        Query(layout=Layout.IMAGE, site=SITE)
    odd = SiteInfo("odd", Layout.SEQUENCE, (4, 9, 9), 4, 0)
    for _ in range(2):
        with pytest.raises(
            BlueprintError, match=r"site odd is no sequence: .*; that of a sequence is \(channels, length\)"
        ):
            CATALOGUE.query(Query(site=odd))
    with pytest.raises(BlueprintError, match="site odd is no sequence"):
        CATALOGUE.get_ready((SITE, odd))


def test_the_first_stage_is_the_eight_that_there_were_first() -> None:
    first = CATALOGUE.query(Query(max_stage=1))
    assert [one for one in sorted(ids(first)) if one <= "BP050"] == [
        f"BP{number:03}" for number in range(1, 9)
    ]
