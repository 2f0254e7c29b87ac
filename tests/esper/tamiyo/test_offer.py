"""Claims about what a configuration puts on offer, and what becomes of what it approves of."""

import random

import pytest
from msgspec.structs import replace

from contracts.blueprint import BlueprintTier
from contracts.config import Config, GrowthConfig, HeuristicConfig
from contracts.growth import Layout, ProbeReport, ProbeScore, SiteInfo
from esper.karn.blueprints.identity import Identity
from esper.karn.blueprints.low_rank import LowRank
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.query import CONSERVATIVE_RISK_MAX
from esper.tamiyo.action import Germinate
from esper.tamiyo.baselines import GrowBlindly
from esper.tamiyo.choice import make_policy
from esper.tamiyo.heuristic import Heuristic
from esper.tamiyo.offer import NotGrown, offered
from esper.tamiyo.race import kind_race
from tests.esper.tamiyo.views import SITES, state, view


class Experimental(LowRank):
    descriptor = replace(
        LowRank.descriptor,
        blueprint_id="BP901",
        tier=BlueprintTier.EXPERIMENTAL,
        approval_required=True,
        stage=4,
    )


class ForDrills(Identity):
    descriptor = replace(
        Identity.descriptor, blueprint_id="BP902", tier=BlueprintTier.HIGH_RISK, quarantine_only=True
    )


FEW = Catalogue((Experimental(), ForDrills()))
APPROVES = GrowthConfig(max_stage=4, approved=("BP901",))


def test_by_default_the_first_stage_is_on_offer() -> None:
    found = offered(CATALOGUE, SITES, GrowthConfig(), 10_000)
    assert sorted(one.blueprint_id for one in found) == [f"BP{number:03}" for number in range(1, 9)]


def test_what_any_of_the_sites_takes_is_on_offer_once_in_the_order_of_a_query() -> None:
    head = SiteInfo("head", Layout.VECTOR, (6,), 6, 2)
    found = offered(CATALOGUE, (*SITES, head), GrowthConfig(max_stage=3), 100)
    assert len(set(found)) == len(found)
    apart = {
        one for site in (*SITES, head) for one in offered(CATALOGUE, (site,), GrowthConfig(max_stage=3), 100)
    }
    assert set(found) == apart
    order = [(one.descriptor.stage, one.descriptor.risk, one.blueprint_id) for one in found]
    assert order == sorted(order)


def test_an_experimental_blueprint_is_on_offer_once_approved_of_and_of_an_open_stage() -> None:
    assert [one.blueprint_id for one in offered(FEW, SITES, APPROVES, 100)] == ["BP901"]
    assert offered(FEW, SITES, GrowthConfig(max_stage=4), 100) == ()
    assert offered(FEW, SITES, GrowthConfig(max_stage=3, approved=("BP901",)), 100) == ()


def test_blind_growth_says_that_what_it_germinates_is_approved_of() -> None:
    action = GrowBlindly(FEW, random.Random(0), APPROVES, window=(0.0, 0.01)).act(
        state(9), view(9, progress=0.5)
    )
    assert isinstance(action, Germinate)
    assert action.candidate.blueprint_id == "BP901"
    assert action.approved
    plain = GrowBlindly(CATALOGUE, random.Random(0), GrowthConfig(), window=(0.0, 0.01))
    trusted = plain.act(state(9), view(9, progress=0.5))
    assert isinstance(trusted, Germinate)
    assert not trusted.approved


def test_the_heuristic_says_that_what_it_germinates_is_approved_of() -> None:
    both = Catalogue((Experimental(), LowRank()))
    policy = Heuristic(both, APPROVES, HeuristicConfig())
    for epoch in (10, 12):
        plan = policy.survey(state(epoch), view(epoch))
        assert plan is not None
        scores = tuple(
            ProbeScore(one, 0.1 if one.grafts[0].blueprint_id == "BP901" else 0.9, 1.0, 100, 10)
            for one in plan.contenders
        )
        report = ProbeReport(plan.probe_id, epoch, scores, 10, 0.1)
        action = policy.act(state(epoch + 1), replace(view(epoch + 1), evidence=report))
    assert isinstance(action, Germinate)
    assert action.candidate.blueprint_id == "BP901"
    assert action.approved


@pytest.mark.parametrize(
    ("growth", "said"),
    [
        (GrowthConfig(approved=("BP9O1",)), "growth.approved: there is no blueprint 'BP9O1'"),
        (GrowthConfig(approved=("BP901",)), "is of stage 4; it takes growth.max_stage=4"),
        (GrowthConfig(max_stage=5, approved=("BP902",)), "is grown in drills alone"),
    ],
)
def test_approval_of_what_can_not_be_grown_is_refused(growth: GrowthConfig, said: str) -> None:
    with pytest.raises(NotGrown, match=said):
        make_policy(replace(Config(), growth=growth), FEW)
    assert make_policy(replace(Config(), growth=APPROVES), FEW).name == "heuristic"


def test_in_conservative_mode_only_the_lowest_risk_is_on_offer() -> None:
    growth = GrowthConfig(max_stage=3)
    calm = replace(view(1), conservative=True)
    careful = offered(CATALOGUE, SITES, growth, 10_000, calm)
    assert careful
    assert all(one.descriptor.risk <= CONSERVATIVE_RISK_MAX for one in careful)
    assert set(careful) < set(offered(CATALOGUE, SITES, growth, 10_000, view(1)))


def test_what_could_not_be_compiled_is_not_on_offer_and_does_not_race() -> None:
    now = replace(view(1), left_out=frozenset({"BP003"}))
    assert "BP003" not in {one.blueprint_id for one in offered(CATALOGUE, SITES, GrowthConfig(), 10_000, now)}
    plan = kind_race(now, CATALOGUE, GrowthConfig(), HeuristicConfig(), 320)
    assert plan is not None
    assert "BP003" not in {one.grafts[0].blueprint_id for one in plan.contenders}
