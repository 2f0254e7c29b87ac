"""What the policies are likely to ask for, against what they then ask for."""

import random

import msgspec

from contracts.config import GrowthConfig, HeuristicConfig
from contracts.growth import GrowthView, Path, ProbePlan
from contracts.lifecycle import Stage
from contracts.messages import SystemState
from esper.karn.catalogue import CATALOGUE
from esper.tamiyo.action import Action, Advance, Germinate, Wait
from esper.tamiyo.baselines import GrowBlindly, NeverGrow
from esper.tamiyo.foresight import FORECAST_MAX, forecast
from esper.tamiyo.heuristic import Heuristic
from esper.tamiyo.race import SHORT_LIST
from tests.esper.tamiyo.test_heuristic import raced, settled, with_evidence
from tests.esper.tamiyo.views import SITES, seed, state, view

GROWTH = GrowthConfig(path=Path(0, 0, 0, 4))


class Silent:
    """A policy of somebody's own, that says nothing of what it will do."""

    name = version = "silent"
    reads_validation = False

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        return Wait("as ever")


def test_the_heuristic_foresees_what_it_germinates() -> None:
    policy = Heuristic(CATALOGUE, GROWTH, HeuristicConfig())
    _, sites = settled(policy)
    before = forecast(policy, CATALOGUE, GROWTH, view(13))
    now = with_evidence(raced(sites), 14)
    action = policy.act(state(14), now)
    assert isinstance(action, Germinate)
    assert action.candidate in before
    assert forecast(policy, CATALOGUE, GROWTH, now)[0] == action.candidate


def test_before_the_races_the_short_list_comes_first_and_all_on_offer_follow() -> None:
    policy = Heuristic(CATALOGUE, GROWTH, HeuristicConfig())
    likely = [one.blueprint_id for one in forecast(policy, CATALOGUE, GROWTH, view(1))]
    assert list(dict.fromkeys(likely))[:3] == list(SHORT_LIST), "the likeliest winner first"
    assert set(likely[: 3 * len(SITES)]) == set(SHORT_LIST)
    assert set(likely) == {f"BP00{n}" for n in range(1, 9)}


def test_nothing_is_foreseen_while_a_seed_grows_or_when_growth_is_over() -> None:
    policy = Heuristic(CATALOGUE, GROWTH, HeuristicConfig())
    assert forecast(policy, CATALOGUE, GROWTH, view(5, (seed(Stage.PROBATIONARY),))) == ()
    assert forecast(policy, CATALOGUE, GROWTH, view(5, progress=0.95)) == ()


def test_the_random_policy_draws_from_what_it_foresees() -> None:
    for number in range(20):
        policy = GrowBlindly(CATALOGUE, random.Random(number), GROWTH, window=(0.0, 0.05))
        likely = forecast(policy, CATALOGUE, GROWTH, view(9))
        action = policy.act(state(9), view(9))
        assert isinstance(action, Germinate)
        assert action.candidate in likely


def test_of_a_policy_that_says_nothing_all_that_is_on_offer_is_foreseen() -> None:
    likely = forecast(Silent(), CATALOGUE, GROWTH, view(1))
    assert {one.blueprint_id for one in likely} == {f"BP00{n}" for n in range(1, 9)}
    assert {one.site for one in likely} == {site.name for site in SITES}
    assert all(one.params <= 1300 - 338 for one in likely)


def test_a_policy_that_never_grows_foresees_nothing() -> None:
    assert forecast(NeverGrow(), CATALOGUE, GROWTH, view(1)) == ()


def test_what_could_not_be_compiled_is_not_foreseen() -> None:
    now = msgspec.structs.replace(view(1), left_out=frozenset({"BP003"}))
    assert "BP003" not in {one.blueprint_id for one in forecast(Silent(), CATALOGUE, GROWTH, now)}


def test_a_forecast_is_bounded() -> None:
    growth = msgspec.structs.replace(GROWTH, max_stage=3)
    many = msgspec.structs.replace(view(1), sites=tuple(view(1).sites[0] for _ in range(40)))
    assert len(forecast(Silent(), CATALOGUE, growth, many)) == FORECAST_MAX


def test_while_a_seed_is_on_probation_the_heuristic_foresees_what_follows_if_it_stays() -> None:
    policy = Heuristic(CATALOGUE, GROWTH, HeuristicConfig())
    _, sites = settled(policy)
    action = policy.act(state(14), with_evidence(raced(sites), 14))
    assert isinstance(action, Germinate)
    params = 338 + action.candidate.params
    growing = seed(Stage.PROBATIONARY, site=action.candidate.site, stage_epoch=14, path=GROWTH.path, gain=0.5)
    before = forecast(policy, CATALOGUE, GROWTH, view(15, (growing,), params=params))
    step = policy.act(state(18), view(18, (growing,), params=params))
    assert isinstance(step, Advance)
    fossil = msgspec.structs.replace(
        growing, record=msgspec.structs.replace(growing.record, stage=Stage.FOSSILIZED)
    )
    places = tuple(
        msgspec.structs.replace(one, seed=None, fossils=(fossil,) if one.seed is not None else ())
        for one in view(20, (growing,), params=params).sites
    )
    then = msgspec.structs.replace(view(20, params=params), sites=places)
    following = policy.act(state(20), then)
    assert isinstance(following, Germinate)
    assert following.candidate == before[0]
    assert following.candidate.site != action.candidate.site
