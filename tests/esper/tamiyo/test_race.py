"""Claims about what the heuristic asks to have measured, and how it reads the answer."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.blueprint import BlueprintTier
from contracts.config import GrowthConfig, HeuristicConfig
from contracts.growth import Candidate, Contender, GrowthView, ProbePlan, ProbeReport, ProbeScore
from esper.karn.catalogue import CATALOGUE
from esper.tamiyo.offer import offered
from esper.tamiyo.race import (
    BACKWARD,
    FIRST_STAGE,
    STEPS_MAX,
    STEPS_MIN,
    best_kinds,
    enough_for_kinds,
    epoch_flops,
    kind_race,
    site_order,
    site_race,
)
from tests.esper.tamiyo.views import SITES, view

CONFIG = HeuristicConfig()
GROWTH = GrowthConfig()
DEPTHS = {site.name: site.depth for site in SITES}


def report(*gains: tuple[str, str, float], steps: int = 100) -> ProbeReport:
    scores = tuple(
        ProbeScore(Contender((Candidate(site, kind, {}, 10),)), 1.0 - gain, 1.0, steps, 1000)
        for site, kind, gain in gains
    )
    return ProbeReport("p", 5, scores, 10, 0.1)


def raced_kinds(plan: ProbePlan | None) -> set[str]:
    return {one.grafts[0].blueprint_id for one in plan.contenders} if plan is not None else set()


def test_every_safe_blueprint_of_the_first_stage_races_at_every_site_that_it_fits() -> None:
    plan = kind_race(view(), CATALOGUE, GROWTH, CONFIG, 300)
    assert plan is not None
    raced = {contender.grafts[0].blueprint_id for contender in plan.contenders}
    safe = {
        one.blueprint_id
        for one in CATALOGUE
        if one.descriptor.tier is BlueprintTier.SAFE
        and one.descriptor.stage <= FIRST_STAGE
        and SITES[0].layout in one.layouts
    }
    assert raced == safe
    for contender in plan.contenders:
        assert len({graft.blueprint_id for graft in contender.grafts}) == 1
        assert [graft.site for graft in contender.grafts] == [site.name for site in SITES]


def test_no_contender_is_larger_than_its_allotment() -> None:
    plan = kind_race(view(), CATALOGUE, GROWTH, CONFIG, 300)
    assert plan is not None
    assert all(graft.params <= 300 for one in plan.contenders for graft in one.grafts)


def first_round_flops(plan: ProbePlan, situation: GrowthView) -> int:
    sites = {site.name: site for site in SITES}
    forks = [
        situation.step_flops
        + sum(
            BACKWARD
            * situation.batch_size
            * CATALOGUE.get(graft.blueprint_id).forward_flops(sites[graft.site], graft.parameters)
            for graft in one.grafts
        )
        for one in plan.contenders
    ]
    return plan.rounds[0].steps * (sum(forks) + situation.step_flops)


@pytest.mark.parametrize("budget", [1.2e10, 3e10, 1e12])
def test_a_race_costs_about_its_share_of_the_budget(budget: float) -> None:
    situation = msgspec.structs.replace(view(), budget_flops=int(budget))
    plan = kind_race(situation, CATALOGUE, GROWTH, CONFIG, 300)
    assert plan is not None
    steps, cost = plan.rounds[0].steps, first_round_flops(plan, situation)
    assert STEPS_MIN <= steps <= STEPS_MAX
    assert cost <= CONFIG.kind_shares[0] * budget or steps == STEPS_MIN


def test_a_budget_that_can_not_pay_for_a_telling_race_gets_none() -> None:
    assert (
        kind_race(msgspec.structs.replace(view(), budget_flops=10**8), CATALOGUE, GROWTH, CONFIG, 300) is None
    )


@given(st.integers(2, 4), st.floats(9, 13))
@settings(max_examples=30)
def test_later_stages_race_as_far_as_the_budget_goes_in_the_order_of_a_query(
    max_stage: int, digits: float
) -> None:
    situation = msgspec.structs.replace(view(), budget_flops=int(10**digits))
    growth = GrowthConfig(max_stage=max_stage)
    first = kind_race(situation, CATALOGUE, GROWTH, CONFIG, 300)
    plan = kind_race(situation, CATALOGUE, growth, CONFIG, 300)
    kinds, core = raced_kinds(plan), raced_kinds(first)
    order = [one.blueprint_id for one in offered(CATALOGUE, SITES, growth, 200)]
    assert core <= kinds
    assert kinds in (core, set(order[: len(kinds)]))
    if plan is not None and kinds > core:
        assert plan.rounds[0].steps >= STEPS_MIN
        assert first_round_flops(plan, situation) <= CONFIG.kind_shares[0] * int(10**digits)


def test_a_rich_budget_races_every_stage_and_a_poor_one_the_first() -> None:
    growth = GrowthConfig(max_stage=3)
    everything = {one.blueprint_id for one in offered(CATALOGUE, SITES, growth, 200)}
    rich = kind_race(msgspec.structs.replace(view(), budget_flops=10**13), CATALOGUE, growth, CONFIG, 300)
    poor = kind_race(msgspec.structs.replace(view(), budget_flops=12 * 10**9), CATALOGUE, growth, CONFIG, 300)
    assert raced_kinds(rich) == everything > {f"BP{number:03}" for number in range(1, 9)}
    assert len(everything) > 12
    assert {f"BP{number:03}" for number in range(1, 9)} <= raced_kinds(poor) < everything


def test_the_finalists_race_at_one_site_at_a_time() -> None:
    kinds = [CATALOGUE.get("BP003"), CATALOGUE.get("BP004")]
    plan = site_race(view(), kinds, CATALOGUE, CONFIG, 300)
    assert plan is not None
    raced = {(one.grafts[0].site, one.grafts[0].blueprint_id) for one in plan.contenders}
    assert raced == {(site.name, kind.blueprint_id) for site in SITES for kind in kinds}
    assert all(len(one.grafts) == 1 for one in plan.contenders)


def test_a_race_that_nothing_fits_is_not_asked_for() -> None:
    assert kind_race(view(), CATALOGUE, GROWTH, CONFIG, 0) is None
    assert site_race(view(), [CATALOGUE.get("BP004")], CATALOGUE, CONFIG, 1) is None


def test_only_kinds_that_beat_the_control_are_read_as_winners() -> None:
    shown = report(("body.0", "BP003", 0.2), ("body.0", "BP004", 0.3), ("body.0", "BP005", -0.1))
    assert best_kinds(shown, 5) == ("BP004", "BP003")
    assert best_kinds(shown, 1) == ("BP004",)
    assert best_kinds(report(("body.0", "BP003", -0.2)), 2) == ()


def test_a_site_upstream_wins_a_tie_and_loses_a_clear_case() -> None:
    tied = report(("body.0", "BP003", 0.07), ("body.1", "BP003", 0.10))
    clear = report(("body.0", "BP003", 0.05), ("body.1", "BP003", 0.10))
    assert site_order(tied, view(), ["BP003"], 0.6) == ("body.0", "body.1")
    assert site_order(clear, view(), ["BP003"], 0.6) == ("body.1", "body.0")


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=2), st.floats(0, 1))
def test_sites_are_ordered_without_repeats_and_without_losers(gains: list[float], tie: float) -> None:
    shown = report(*((site.name, "BP003", gain) for site, gain in zip(SITES, gains, strict=True)))
    order = site_order(shown, view(), ["BP003"], tie)
    assert len(order) == len(set(order))
    assert set(order) == {score.contender.grafts[0].site for score in shown.scores if score.gain > 0}


@given(allotment=st.integers(80, 900), in_epochs=st.booleans())
def test_a_budget_is_enough_exactly_where_a_race_is_run(allotment: int, in_epochs: bool) -> None:
    situation = view(budget_flops=None) if in_epochs else view()
    enough = enough_for_kinds(situation, CATALOGUE, GROWTH, CONFIG, allotment)
    assert enough is not None

    def raced(flops: float) -> ProbePlan | None:
        length: dict[str, object] = {"budget_flops": int(flops)}
        if in_epochs:
            length = {"progress": situation.epoch * epoch_flops(situation) / flops}
        return kind_race(msgspec.structs.replace(situation, **length), CATALOGUE, GROWTH, CONFIG, allotment)

    assert raced(1.001 * enough) is not None
    assert raced(0.99 * enough) is None


def test_no_budget_is_enough_where_there_is_nothing_to_compare() -> None:
    assert enough_for_kinds(view(), CATALOGUE, GROWTH, CONFIG, 0) is None
