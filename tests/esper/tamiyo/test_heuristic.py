"""Claims about the heuristic policy, one boundary at a time."""

import re
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from contracts.config import GrowthConfig, HeuristicConfig
from contracts.growth import GrowthView, Path, ProbePlan, ProbeReport, ProbeScore, SeedView
from contracts.lifecycle import SeedOperation, Stage
from esper.karn.catalogue import CATALOGUE
from esper.tamiyo.action import Advance, Cull, Germinate, Wait
from esper.tamiyo.heuristic import ANSWER_EPOCHS, TRIES_MAX, Heuristic
from tests.esper.tamiyo.views import SITES, seed, state, view

GROWTH = GrowthConfig(path=Path(0, 0, 0, 4))
CONFIG = HeuristicConfig()


def heuristic() -> Heuristic:
    return Heuristic(CATALOGUE, GROWTH, CONFIG)


def raced(plan: ProbePlan, best: int = 0, gain: float = 0.5) -> ProbeReport:
    """A report in which contender `best` wins and all others barely beat the control."""
    scores = [
        ProbeScore(one, 1.0 - (gain if n == best else 0.01), 1.0, 100, 10_000)
        for n, one in enumerate(plan.contenders)
    ]
    return ProbeReport(plan.probe_id, 1, tuple(sorted(scores, key=lambda score: score.loss)), 10, 0.1)


def with_evidence(report: ProbeReport, epoch: int, **facts: Any) -> GrowthView:
    return msgspec.structs.replace(view(epoch, **facts), evidence=report)


def settled(policy: Heuristic) -> tuple[ProbePlan, ProbePlan]:
    """Take a policy through both races; afterwards it is ready to germinate at epoch 14."""
    kinds = policy.survey(state(10), view(10))
    assert kinds is not None
    policy.act(state(12), with_evidence(raced(kinds), 12))
    sites = policy.survey(state(12), view(12))
    assert sites is not None
    return kinds, sites


def test_it_waits_until_the_first_race_is_due() -> None:
    policy = heuristic()
    early = view(1, progress=CONFIG.race_at / 2)
    assert policy.survey(state(1), early) is None
    assert isinstance(policy.act(state(1), early), Wait)


def test_it_grows_what_won_where_it_won() -> None:
    policy = heuristic()
    _, sites = settled(policy)
    action = policy.act(state(14), with_evidence(raced(sites), 14))
    assert isinstance(action, Germinate)
    assert action.candidate == sites.contenders[0].grafts[0]


def test_the_second_seed_goes_to_the_second_best_site() -> None:
    policy = heuristic()
    _, sites = settled(policy)
    report = raced(sites)
    first = policy.act(state(14), with_evidence(report, 14))
    assert isinstance(first, Germinate)
    ripe = seed(Stage.PROBATIONARY, first.candidate.site, stage_epoch=16, path=GROWTH.path, gain=0.3)
    step = policy.act(state(20), with_evidence(report, 20, seeds=(ripe,)))
    assert isinstance(step, Advance)
    assert step.operation is SeedOperation.FOSSILIZE
    second = policy.act(state(21), with_evidence(report, 21))
    assert isinstance(second, Germinate)
    assert second.candidate.site != first.candidate.site


def test_it_does_not_grow_where_nothing_beat_the_control() -> None:
    policy = heuristic()
    kinds = policy.survey(state(10), view(10))
    assert kinds is not None
    losers = tuple(ProbeScore(one, 1.1, 1.0, 100, 10_000) for one in kinds.contenders)
    report = ProbeReport(kinds.probe_id, 11, losers, 10, 0.1)
    action = policy.act(state(12), with_evidence(report, 12))
    assert isinstance(action, Wait)
    assert "ungrown" in action.reason
    assert policy.survey(state(12), view(12)) is None, "and it does not ask again"


@pytest.mark.parametrize(("gain", "kept"), [(0.3, True), (0.0001, False), (-0.2, False)])
def test_a_seed_stays_if_it_gains_more_than_its_rent(gain: float, kept: bool) -> None:
    policy = heuristic()
    ripe = seed(Stage.PROBATIONARY, stage_epoch=10, path=GROWTH.path, gain=gain)
    action = policy.act(state(14), view(14, (ripe,)))
    assert isinstance(action, Advance if kept else Cull)


@pytest.mark.parametrize(("over", "kept"), [(-0.001, False), (0.001, True)])
def test_a_seed_has_to_gain_more_the_more_of_the_network_it_is(over: float, kept: bool) -> None:
    ripe = seed(Stage.PROBATIONARY, stage_epoch=10, path=GROWTH.path)
    rent = CONFIG.rent * ripe.record.params / 338
    assert rent > 0.005, "far more than what is looked at"
    ripe = seed(
        Stage.PROBATIONARY, stage_epoch=10, path=GROWTH.path, gain=GROWTH.gates.gain_min + rent + over
    )
    action = heuristic().act(state(14), view(14, (ripe,), params=338))
    assert isinstance(action, Advance if kept else Cull)
    assert isinstance(heuristic().act(state(14), view(14, (ripe,), params=33_800)), Advance), "a hundredth"


def test_a_seed_whose_gain_nobody_measured_is_neither_kept_nor_culled() -> None:
    policy = heuristic()
    action = policy.act(state(14), view(14, (seed(Stage.PROBATIONARY, stage_epoch=10, path=GROWTH.path),)))
    assert isinstance(action, Wait)


def test_a_seed_that_no_gate_lets_on_is_given_up() -> None:
    policy = heuristic()

    def at(epoch: int) -> SeedView:
        return seed(Stage.BLENDING, stage_epoch=10, path=GROWTH.path, gain=-0.5)

    actions = [policy.act(state(epoch), view(epoch, (at(epoch),))) for epoch in range(11, 20)]
    assert isinstance(actions[0], Advance)
    assert any(isinstance(action, Cull) for action in actions)


def test_two_seeds_in_a_row_that_do_not_pay_end_growth() -> None:
    policy = heuristic()
    for start in (10, 50):
        ripe = seed(Stage.PROBATIONARY, stage_epoch=start, path=GROWTH.path, gain=-0.1)
        assert isinstance(policy.act(state(start + 4), view(start + 4, (ripe,))), Cull)
    for epoch in range(60, 120):
        policy.act(state(epoch, training_loss=1.0), view(epoch))
        assert policy.survey(state(epoch), view(epoch)) is None


def test_after_a_cull_it_races_again_only_on_a_plateau() -> None:
    policy = heuristic()
    ripe = seed(Stage.PROBATIONARY, stage_epoch=10, path=GROWTH.path, gain=-0.1)
    policy.act(state(14), view(14, (ripe,)))
    falling = 1.0
    for epoch in range(15, 15 + 3 * CONFIG.plateau_epochs):
        falling *= 0.9
        policy.act(state(epoch, training_loss=falling), view(epoch))
        assert policy.survey(state(epoch), view(epoch)) is None, "the host still learns by itself"
    asked = None
    for epoch in range(60, 60 + 3 * CONFIG.plateau_epochs):
        policy.act(state(epoch, training_loss=falling), view(epoch))
        asked = asked or policy.survey(state(epoch), view(epoch))
    assert asked is not None


@pytest.mark.parametrize("facts", [{"progress": 0.9}, {"conservative": True}, {"params": 1300}])
def test_late_conservative_or_full_it_leaves_the_network_alone(facts: dict[str, Any]) -> None:
    policy = heuristic()
    situation = view(50, **facts)
    assert policy.survey(state(50), situation) is None
    assert isinstance(policy.act(state(50), situation), Wait)


def test_a_race_that_is_never_run_is_asked_for_again_but_not_for_ever() -> None:
    policy = heuristic()
    asked = [epoch for epoch in range(10, 200) if policy.survey(state(epoch), view(epoch)) is not None]
    assert len(asked) == 2 * TRIES_MAX
    assert all(b - a >= ANSWER_EPOCHS for a, b in pairwise(asked))


def test_a_germination_that_is_always_refused_is_given_up() -> None:
    policy = heuristic()
    _, sites = settled(policy)
    report = raced(sites)
    actions = [policy.act(state(epoch), with_evidence(report, epoch)) for epoch in range(14, 40)]
    assert sum(isinstance(action, Germinate) for action in actions) == TRIES_MAX


# Others decided meanwhile ------------------------------------------------------------------------------


def grown(policy: Heuristic, stage: Stage) -> tuple[ProbeReport, SeedView]:
    """A policy that has germinated at epoch 14 and seen its seed at epoch 15; that seed in `stage` later."""
    _, sites = settled(policy)
    report = raced(sites)
    action = policy.act(state(14), with_evidence(report, 14))
    assert isinstance(action, Germinate)
    young = seed(Stage.GERMINATED, action.candidate.site, stage_epoch=14, path=GROWTH.path)
    policy.act(state(15), with_evidence(report, 15, seeds=(young,)))
    return report, seed(stage, action.candidate.site, stage_epoch=20, path=GROWTH.path, gain=0.3)


def test_a_seed_that_others_kept_counts_as_its_own_success() -> None:
    policy = heuristic()
    report, kept = grown(policy, Stage.FOSSILIZED)
    sites = tuple(
        msgspec.structs.replace(site, seed=None, fossils=(kept,))
        if site.site.name == kept.record.site
        else site
        for site in view(22).sites
    )
    action = policy.act(state(22), with_evidence(report, 22, sites=sites))
    assert isinstance(action, Germinate)
    assert action.candidate.site != kept.record.site, "the second best site's turn has come"


def test_a_seed_that_others_culled_counts_as_its_own_failure() -> None:
    policy = heuristic()
    report, culled = grown(policy, Stage.CULLED)
    assert isinstance(policy.act(state(22), with_evidence(report, 22, seeds=(culled,))), Wait)
    assert policy.survey(state(23), with_evidence(report, 23)) is None, "no new race before a plateau"
    for epoch in range(23, 23 + 2 * CONFIG.plateau_epochs):
        assert not isinstance(policy.act(state(epoch), with_evidence(report, epoch)), Germinate)
    assert policy.survey(state(60), with_evidence(report, 60)) is not None


def test_a_seed_whose_fate_is_still_open_goes_on() -> None:
    policy = heuristic()
    report, ripe = grown(policy, Stage.PROBATIONARY)
    step = policy.act(state(24), with_evidence(report, 24, seeds=(ripe,)))
    assert isinstance(step, Advance)
    assert step.operation is SeedOperation.FOSSILIZE


def test_a_gap_without_seeds_changes_nothing() -> None:
    policy, other = heuristic(), heuristic()
    report, again = raced(settled(policy)[1]), raced(settled(other)[1])
    policy.act(state(13), view(13))
    other.act(state(40), view(40))
    assert policy.act(state(41), with_evidence(report, 41)) == other.act(state(41), with_evidence(again, 41))


def test_what_is_caught_up_with_is_counted_once() -> None:
    policy = heuristic()
    report, culled = grown(policy, Stage.CULLED)
    for epoch in (22, 23, 30, 40):
        policy.act(state(epoch), with_evidence(report, epoch, seeds=(culled,)))
    memory = msgspec.msgpack.decode(policy.memory())
    assert (memory["culls"], memory["over"]) == (1, "")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"budget_flops": 10**8}, r"pays: [\d.]+ GFLOP would do$"),
        ({"budget_flops": None, "epoch": 1}, r"pays: \d+ epochs would do$"),
        ({"max_params": 338}, r"^no blueprint fits the 0 parameters that are left for \d seeds$"),
        ({"max_params": 300}, r"^no blueprint fits the 0 parameters that are left for \d seeds$"),
    ],
)
def test_it_says_what_would_be_enough_where_it_can_not_race(facts: dict[str, Any], said: str) -> None:
    policy = heuristic()
    where = view(**facts)
    assert policy.survey(state(10), where) is None
    action = policy.act(state(10), where)
    assert isinstance(action, Wait)
    assert re.search(said, action.reason), action.reason


def test_a_budget_that_it_calls_enough_is_enough() -> None:
    poor = heuristic()
    poor.survey(state(10), view(budget_flops=10**8))
    action = poor.act(state(10), view(budget_flops=10**8))
    assert isinstance(action, Wait)
    (gflop,) = re.findall(r"([\d.]+) GFLOP", action.reason)
    rich = view(budget_flops=round(float(gflop) * 1e9))
    assert heuristic().survey(state(10), rich) is not None


def test_while_every_site_rests_it_waits_and_does_not_give_up() -> None:
    policy = heuristic()
    culled = tuple(seed(Stage.CULLED, site.name, stage_epoch=9) for site in SITES)
    assert policy.survey(state(10), view(10, culled)) is None
    assert policy.act(state(10), view(10, culled)) == Wait("")
    assert policy.survey(state(18), view(18)) is not None
