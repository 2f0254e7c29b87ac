"""What the engine takes, what it refuses, and that a refused command changes nothing."""

import msgspec
import pytest
import torch
from msgspec.structs import replace

from contracts.config import GrowthConfig
from contracts.growth import Path, SeedFigures
from contracts.lifecycle import ACTIVE, LIVE, Gate, SeedOperation, Stage
from contracts.messages import CommandOptimizerAdjustment, CommandType
from esper.kasmina.engine import Engine, EngineState, UnknownPlan
from esper.kasmina.plan import Fossilize, Insert, Isolate, Note, Remove, SetAlpha, Verdict
from tests.esper.kasmina.engine_world import AT_ONCE, SITES, TIERED, Rig

GERMINATE, CULL = SeedOperation.GERMINATE, SeedOperation.CULL
EVALUATE, FOSSILIZE = SeedOperation.EVALUATE, SeedOperation.FOSSILIZE
STAGE_BY_OPERATION = {
    SeedOperation.GERMINATE: Stage.GERMINATED,
    SeedOperation.START_TRAINING: Stage.TRAINING,
    SeedOperation.START_GRAFTING: Stage.BLENDING,
    SeedOperation.STABILIZE: Stage.SHADOWING,
    SeedOperation.EVALUATE: Stage.PROBATIONARY,
    SeedOperation.FOSSILIZE: Stage.FOSSILIZED,
}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def assert_refused(rig: Rig, verdict: Verdict, reason: str) -> None:
    """It was refused for `reason`, plans nothing but housekeeping, and changes no record."""
    assert not verdict.applied
    assert reason in verdict.refusal
    before = rig.engine.records()
    housekeeping = rig.propose(rig.pause()).plan.changes
    assert verdict.plan.changes == housekeeping
    if not housekeeping:
        again = rig.propose(rig.pause())
        rig.take(again)
        assert rig.engine.records() == before


def test_every_site_starts_with_one_dormant_slot(rig: Rig) -> None:
    assert [(one.seed_id, one.stage) for one in rig.engine.records()] == [
        ("a#0", Stage.DORMANT),
        ("b#0", Stage.DORMANT),
        ("c#0", Stage.DORMANT),
    ]


def test_a_proposal_changes_nothing_until_it_is_committed(rig: Rig) -> None:
    before = rig.engine.state()
    verdict = rig.propose(rig.germinate())
    assert verdict.applied
    assert rig.engine.state() == before
    rig.take(verdict)
    record = rig.record()
    assert record.stage is Stage.GERMINATED
    assert (record.blueprint_id, record.parameters, record.params) == ("BP003", {"width": 2.0}, 80)
    assert (record.born_epoch, record.stage_epoch, record.alpha) == (0, 0, 0.0)


def test_a_germinated_module_is_drawn_from_run_seed_and_seed_id_alone(rig: Rig) -> None:
    def weights(seed: int, site: str) -> torch.Tensor:
        engine = Engine(SITES, rig.config, TIERED, seed)
        (change,) = engine.propose(rig.germinate(site), {}, 0, 0, 338).plan.changes
        assert isinstance(change, Insert)
        return torch.cat([parameter.flatten() for parameter in change.module.parameters()])

    before = torch.get_rng_state()
    assert torch.equal(weights(0, "a"), weights(0, "a"))
    assert not torch.equal(weights(0, "a"), weights(1, "a"))
    assert not torch.equal(weights(0, "a"), weights(0, "b"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_path_of_nothing_takes_a_seed_through_every_stage_at_one_boundary(rig: Rig) -> None:
    rig.grown(GERMINATE)
    verdict = rig.do(rig.command(FOSSILIZE))
    kinds = [type(change) for change in verdict.plan.changes]
    assert kinds == [Isolate, SetAlpha, Isolate, SetAlpha, Fossilize, Note]
    assert [change.learns for change in verdict.plan.changes if isinstance(change, Isolate)] == [True, True]
    assert [change.alpha for change in verdict.plan.changes if isinstance(change, SetAlpha)] == [1.0, 1.0]
    assert [gate.gate.name[:2] for gate in verdict.gates] == ["G0", "G1", "G2", "G3", "G4"]
    assert rig.record("a#0").stage is Stage.FOSSILIZED
    assert rig.record("a#1").stage is Stage.DORMANT


def test_the_first_gate_that_fails_refuses_the_whole_command(rig: Rig) -> None:
    rig.grown(GERMINATE)
    figures = rig.healthy() | {"a#0": replace(rig.healthy()["a#0"], rms_ratio=None)}
    verdict = rig.propose(rig.command(EVALUATE), figures)
    assert [gate.passed for gate in verdict.gates] == [True, True, False]
    assert_refused(rig, verdict, "G2_STABILITY did not pass for a#0: rms_ratio was not measured")
    assert "it stays GERMINATED" in verdict.refusal


def test_a_seed_without_figures_passes_no_gate(rig: Rig) -> None:
    rig.grown(GERMINATE)
    verdict = rig.propose(rig.command(SeedOperation.START_TRAINING), {})
    assert_refused(rig, verdict, "G0_SANITY did not pass for a#0: finite was not measured")


def test_a_stage_that_planned_epochs_is_not_passed_over_before_it_served_them(rig: Rig) -> None:
    rig.grown(SeedOperation.START_TRAINING, training_epochs=3.0)
    rig.epoch = 2
    verdict = rig.propose(rig.command(EVALUATE))
    assert_refused(
        rig, verdict, "can't pass TRAINING to PROBATIONARY: 3 epochs are planned there and 2 served"
    )
    assert "BLENDING works now" in verdict.refusal
    assert rig.propose(rig.command(SeedOperation.START_GRAFTING)).applied
    rig.epoch = 3
    assert rig.propose(rig.command(EVALUATE)).applied


def test_a_stage_ahead_that_plans_epochs_is_entered_and_not_passed(rig: Rig) -> None:
    rig.grown(GERMINATE, blending_epochs=2.0)
    verdict = rig.propose(rig.command(EVALUATE))
    assert_refused(
        rig, verdict, "can't pass BLENDING to PROBATIONARY: 2 epochs are planned there and 0 served"
    )
    assert "BLENDING works now" in verdict.refusal
    assert rig.do(rig.command(SeedOperation.START_GRAFTING)).applied


def test_alpha_rises_by_itself_to_exactly_one(rig: Rig) -> None:
    record = rig.grown(SeedOperation.START_GRAFTING, blending_epochs=3.0)
    alphas = [record.alpha]
    for epoch in (1, 2, 3, 4):
        rig.epoch = epoch
        changes = rig.do(rig.pause()).plan.changes
        assert all(isinstance(change, SetAlpha) for change in changes)
        alphas.append(rig.record().alpha)
    assert alphas == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rig.world.alpha == {"a#0": 1.0}


def test_a_culled_seed_s_site_rests_and_comes_free_with_a_new_slot(rig: Rig) -> None:
    rig.grown(EVALUATE)
    verdict = rig.do(rig.command(CULL))
    (change,) = verdict.plan.changes
    assert isinstance(change, Remove)
    assert not change.rollback
    stages = []
    for epoch in range(1, 5):
        rig.epoch = epoch
        rig.do(rig.pause())
        rig.do(rig.pause())  # a second ask in one epoch moves nothing further
        stages.append([one.stage.name for one in rig.engine.records() if one.site == "a"])
    assert stages == [["EMBARGOED"], ["RESETTING"], ["DORMANT"], ["DORMANT"]]
    assert rig.engine.records()[0].seed_id == "a#1"
    assert rig.world.stage["a#0"] is Stage.DORMANT


def test_a_site_is_not_reset_before_it_was_seen_clear(rig: Rig) -> None:
    rig.grown(GERMINATE)
    rig.do(rig.command(CULL))
    for epoch in range(1, 4):
        rig.epoch = epoch
        verdict = rig.do(rig.pause(), {})
    assert rig.record().stage is Stage.RESETTING
    assert verdict.gates[0].reason == "cleared was not measured"
    assert verdict.applied


def test_an_embargoed_site_takes_no_seed(rig: Rig) -> None:
    rig.grown(GERMINATE)
    rig.do(rig.command(CULL))
    rig.epoch = 1
    verdict = rig.propose(rig.germinate())
    told = "site a rests after a#0 was culled, at least until epoch 2 (growth.embargo_epochs)"
    assert_refused(rig, verdict, told)
    assert rig.propose(rig.germinate("b")).applied


@pytest.mark.parametrize("operation", STAGE_BY_OPERATION)
def test_a_rollback_is_granted_once_the_host_has_run_with_the_seed(operation: SeedOperation) -> None:
    rig = Rig()
    record = rig.grown(operation)
    verdict = rig.propose(rig.command(CULL, rollback="true"))
    if record.stage not in ACTIVE:
        assert_refused(rig, verdict, "a FOSSILIZED seed can't become CULLED; it can become TERMINATED")
        return
    (change,) = verdict.plan.changes
    assert isinstance(change, Remove)
    touched = record.stage not in (Stage.GERMINATED, Stage.TRAINING)
    assert change.rollback == change.record.rolled_back == touched


def test_fine_tune_begins_probation_anew(rig: Rig) -> None:
    rig.grown(EVALUATE, probation_epochs=4.0)
    rig.epoch = 3
    assert rig.do(rig.command(SeedOperation.FINE_TUNE)).applied
    assert (rig.record().stage, rig.record().stage_epoch) == (Stage.PROBATIONARY, 3)


def test_fine_tune_is_for_probation_alone(rig: Rig) -> None:
    rig.grown(GERMINATE)
    assert_refused(
        rig, rig.propose(rig.command(SeedOperation.FINE_TUNE)), "a#0 is GERMINATED; FINE_TUNE keeps"
    )


def test_going_back_on_the_main_line_is_refused(rig: Rig) -> None:
    rig.grown(EVALUATE)
    verdict = rig.propose(rig.command(SeedOperation.START_GRAFTING))
    assert_refused(
        rig, verdict, "a PROBATIONARY seed can't become BLENDING; it can become FOSSILIZED, CULLED"
    )


def test_a_dormant_seed_takes_nothing_but_germinate(rig: Rig) -> None:
    verdict = rig.propose(rig.command(EVALUATE))
    assert_refused(rig, verdict, "a DORMANT seed can't become PROBATIONARY; it can become GERMINATED")


def test_a_germinate_that_names_another_than_the_next_seed_is_refused(rig: Rig) -> None:
    verdict = rig.propose(rig.germinate(seed_id="a#1"))
    assert_refused(rig, verdict, "the next seed at a is a#0, not a#1")
    assert rig.propose(rig.germinate(seed_id="a#0")).applied


@pytest.mark.parametrize(
    ("blueprint_id", "approval", "reason"),
    [
        ("BP901", {}, "needs approval"),
        ("BP901", {"approved": "yes"}, "needs approval"),
        ("BP901", {"approved": "true"}, ""),
        ("BP902", {"approved": "true"}, "HIGH_RISK: it is never germinated"),
        ("BP903", {"approved": "true"}, "quarantine-only: it is never germinated"),
        ("BP9", {}, "there is no blueprint 'BP9'; the nearest ids are"),
    ],
)
def test_a_blueprint_s_tier_decides_who_may_ask_for_it(
    rig: Rig, blueprint_id: str, approval: dict[str, str], reason: str
) -> None:
    verdict = rig.propose(rig.germinate(blueprint_id=blueprint_id, **approval))
    if reason:
        assert_refused(rig, verdict, reason)
    assert verdict.applied == (not reason)


def test_no_command_can_approve_of_what_the_configuration_does_not() -> None:
    rig = Rig(GrowthConfig(path=AT_ONCE))
    verdict = rig.propose(rig.germinate(blueprint_id="BP901", approved="true"))
    assert_refused(rig, verdict, "name it in growth.approved")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"width": 0.0}, "takes a whole width from 1"),
        ({"width": float("nan")}, "takes a whole width from 1"),
        ({"depth": 2.0}, "takes the settings width; it was given depth, width"),
        ({"training_epochs": -1.0}, "training_epochs has to be a whole number of epochs"),
        ({"training_epochs": 1.5}, "training_epochs has to be a whole number of epochs"),
    ],
)
def test_settings_that_the_blueprint_does_not_take_are_refused(
    rig: Rig, changed: dict[str, float], reason: str
) -> None:
    assert_refused(rig, rig.propose(rig.germinate(**changed)), reason)


@pytest.mark.parametrize("value", [None, "a", [1.0], {"a": 1}, True, float("nan"), 10**400])
@pytest.mark.parametrize("name", ["width", "training_epochs"])
def test_a_setting_that_is_no_number_is_refused(rig: Rig, name: str, value: object) -> None:
    if name == "training_epochs" and value == 10**400:
        return  # a whole number, if a long time
    settings = {"width": 2.0, name: value}
    command = rig.command(GERMINATE, "", "BP003", settings, site="a")  # type: ignore[arg-type]
    assert_refused(rig, rig.propose(command), f"a whole {'number' if name != 'width' else 'width'}")


@pytest.mark.parametrize(
    ("operation", "gate"),
    [
        (GERMINATE, Gate.G1_GRADIENT_HEALTH),
        (SeedOperation.START_TRAINING, Gate.G1_GRADIENT_HEALTH),
        (SeedOperation.START_GRAFTING, Gate.G1_GRADIENT_HEALTH),
        (SeedOperation.STABILIZE, Gate.G3_INTERFACE),
        (EVALUATE, Gate.G3_INTERFACE),
    ],
)
def test_a_seed_that_broke_isolation_too_often_is_culled_by_itself(
    rig: Rig, operation: SeedOperation, gate: Gate
) -> None:
    rig.grown(operation)
    rig.epoch += 1
    at_limit = rig.healthy() | {"a#0": replace(rig.healthy()["a#0"], isolation_violations=2)}
    assert not any(isinstance(c, Remove) for c in rig.propose(rig.pause(), at_limit).plan.changes)
    beyond = rig.healthy() | {"a#0": replace(rig.healthy()["a#0"], isolation_violations=3)}
    verdict = rig.do(rig.command(SeedOperation.FOSSILIZE), beyond)
    assert not verdict.applied
    assert (rig.record().stage, rig.record().rests_until) == (Stage.CULLED, 3)
    assert rig.world.in_place == set()
    (found,) = verdict.gates
    assert (found.gate, found.passed) == (gate, False)
    assert found.reason == "isolation_violations is 3, has to be at most 2; the seed is taken out"


def test_a_fossil_is_past_quarantine(rig: Rig) -> None:
    rig.grown(FOSSILIZE)
    rig.epoch += 1
    beyond = {"a#0": replace(rig.healthy()["a#0"], isolation_violations=3)}
    assert rig.propose(rig.pause(), beyond).plan.changes == ()


def test_a_command_sets_the_path_s_durations_and_the_config_the_others(rig: Rig) -> None:
    rig = Rig(GrowthConfig(path=Path(shadowing_epochs=2, probation_epochs=5)))
    record = rig.grown(GERMINATE, training_epochs=4.0, probation_epochs=6.0)
    assert record.path == Path(4, 0, 2, 6)
    assert record.parameters == {"width": 2.0}


def test_an_unknown_site_or_seed_is_refused_with_the_nearest(rig: Rig) -> None:
    assert_refused(rig, rig.propose(rig.germinate("ab")), "there is no site 'ab'; the nearest are")
    nowhere = replace(rig.germinate(), annotations={})
    assert_refused(rig, rig.propose(nowhere), "GERMINATE needs annotations['site']")
    assert_refused(
        rig, rig.propose(rig.command(CULL, "d#0")), "there is no seed 'd#0'; the seeds are a#0, b#0"
    )


def test_parameters_are_counted_against_the_limit_to_the_last_one() -> None:
    rig = Rig(GrowthConfig(max_params=338 + 79))
    assert_refused(
        rig, rig.propose(rig.germinate()), "80 more parameters would make 418, and max_params is 417"
    )
    assert Rig(GrowthConfig(max_params=338 + 80)).propose(rig.germinate()).applied


def test_one_seed_more_than_max_active_is_refused_until_one_is_out_or_in_for_good() -> None:
    rig = Rig(GrowthConfig(path=AT_ONCE, max_active=1))
    rig.grown(GERMINATE)
    assert_refused(rig, rig.propose(rig.germinate("b")), "1 seeds are active and max_active is 1")
    rig.do(rig.command(FOSSILIZE))
    assert rig.do(rig.germinate("b")).applied
    assert not rig.propose(rig.germinate("c")).applied
    rig.do(rig.command(CULL, "b#0"))
    assert rig.propose(rig.germinate("c")).applied


def test_a_full_site_takes_no_seed() -> None:
    rig = Rig(GrowthConfig(path=Path(probation_epochs=0), max_per_site=1))
    rig.grown(FOSSILIZE)
    assert len(rig.engine.records()) == 3
    assert_refused(
        rig, rig.propose(rig.germinate()), "site a is full: it holds as many seeds as max_per_site (1)"
    )


def test_a_repeated_command_is_answered_as_before_and_done_once(rig: Rig) -> None:
    command = rig.germinate()
    rig.do(command)
    after = rig.engine.state()
    again = rig.do(command)
    assert again.applied
    assert again.repeated
    assert again.plan.changes == ()
    assert rig.engine.state() == after


def test_a_repeated_refusal_stays_a_refusal_when_the_command_would_work_now(rig: Rig) -> None:
    command = rig.command(EVALUATE)
    assert_refused(rig, rig.do(command), "a DORMANT seed")
    rig.grown(GERMINATE)
    again = rig.propose(command)
    assert (again.applied, again.repeated) == (False, True)
    assert "a DORMANT seed" in again.refusal


def test_a_proposal_that_was_lost_does_not_count_as_an_answer(rig: Rig) -> None:
    command = rig.germinate()
    rig.propose(command)
    again = rig.propose(command)
    assert again.applied
    assert not again.repeated


def test_another_command_under_a_known_id_is_refused(rig: Rig) -> None:
    command = rig.germinate()
    rig.do(command)
    other = replace(rig.command(CULL), command_id=command.command_id)
    assert_refused(rig, rig.propose(other), "was used for another command")


def test_a_command_is_stale_one_nanosecond_after_its_deadline(rig: Rig) -> None:
    assert rig.propose(rig.germinate(), now_ns=18_000_000).applied
    verdict = rig.propose(rig.germinate(), now_ns=18_000_001)
    assert_refused(rig, verdict, "had to be executed within 18 ms; issue it anew")


def test_what_is_not_kasmina_s_is_refused(rig: Rig) -> None:
    rollback = replace(rig.pause(), command_type=CommandType.ROLLBACK)
    assert_refused(rig, rig.propose(rollback), "takes SEED, PAUSE and CIRCUIT_BREAKER commands, not ROLLBACK")
    empty = replace(rig.germinate(), payload=CommandOptimizerAdjustment("host"))
    assert_refused(rig, rig.propose(empty), "needs a seed operation")
    unknown = rig.command(SeedOperation.UNKNOWN)
    assert_refused(rig, rig.propose(unknown), "UNKNOWN is no operation; there are GERMINATE")
    loaded = rig.command(CULL, parameters={"rate": 1.0})
    assert_refused(rig, rig.propose(loaded), "CULL takes no parameters (given: rate)")
    nobody = replace(rig.germinate(), issued_by="tests")
    assert_refused(rig, rig.propose(nobody), "'tests' may not send commands; tamiyo/*, tolaria, operator")


@pytest.mark.parametrize("operation", [None, *STAGE_BY_OPERATION, CULL])
def test_the_operator_terminates_from_any_stage_and_the_site_closes(operation: SeedOperation | None) -> None:
    rig = Rig()
    if operation is not None:
        rig.grown(operation)
    before = rig.record()
    verdict = rig.propose(rig.terminating())
    assert rig.record() == before
    (change,) = verdict.plan.changes
    assert isinstance(change, Remove) == (before.stage in ACTIVE | LIVE)
    rig.take(verdict)
    assert rig.record().stage is Stage.TERMINATED
    if before.stage is not Stage.FOSSILIZED:
        assert_refused(rig, rig.propose(rig.germinate()), "it can become nothing: it is an end")
    again = rig.propose(rig.terminating())
    assert_refused(rig, again, "a TERMINATED seed can't become TERMINATED")
    for epoch in range(1, 9):
        rig.epoch = epoch
        rig.do(rig.pause())
    assert rig.record().stage is Stage.TERMINATED, "nothing grows there again"


def test_nobody_but_the_operator_terminates(rig: Rig) -> None:
    rig.grown(SeedOperation.FOSSILIZE)
    of_the_policy = replace(rig.terminating(), issued_by="tamiyo/heuristic")
    told = "'tamiyo/heuristic' may not take seeds down for good; 'operator' may"
    assert_refused(rig, rig.propose(of_the_policy), told)
    assert rig.do(rig.terminating()).applied
    assert [one.seed_id for one in rig.engine.records() if one.site == "a"] == ["a#0", "a#1"]
    assert rig.do(rig.germinate()).applied, "the site had room beside what was part of the host"


def test_only_the_newest_proposal_can_be_committed(rig: Rig) -> None:
    with pytest.raises(UnknownPlan, match="the newest proposal is none: propose one first"):
        rig.engine.commit("")
    first, second = rig.propose(rig.germinate("a")), rig.propose(rig.germinate("b"))
    before = rig.engine.state()
    with pytest.raises(UnknownPlan, match="there is no plan"):
        rig.engine.commit(first.plan.plan_id)
    assert rig.engine.state() == before
    rig.engine.commit(second.plan.plan_id)
    after = rig.engine.state()
    rig.engine.commit(second.plan.plan_id)
    assert rig.engine.state() == after


def test_an_engine_goes_on_from_its_state_as_if_it_had_never_stopped(rig: Rig) -> None:
    command = rig.germinate()
    rig.do(command)
    saved = msgspec.msgpack.encode(rig.engine.state())
    resumed = Rig(rig.config)
    resumed.engine.restore(msgspec.msgpack.decode(saved, type=EngineState))
    assert resumed.engine.state() == rig.engine.state()
    assert resumed.propose(command).repeated
    assert resumed.propose(rig.command(EVALUATE)).applied


def test_a_rollback_forgets_the_seed_and_remembers_the_answer(rig: Rig) -> None:
    before = rig.engine.state()
    command = rig.germinate()
    rig.do(command)
    rig.engine.restore(before)
    assert rig.engine.records() == before.records
    assert rig.propose(command).repeated


def test_the_records_are_those_of_the_newest_commit_and_stay_the_same_while_nothing_changes(rig: Rig) -> None:
    dormant = rig.engine.records()
    rig.do(rig.pause())
    assert rig.engine.records() is dormant
    verdict = rig.propose(rig.germinate())
    assert rig.engine.records() is dormant, "nothing is so before it is committed"
    rig.take(verdict)
    assert [one.stage for one in rig.engine.records() if one.site == "a"] == [Stage.GERMINATED]
    rig.engine.restore(EngineState(dormant))
    assert rig.engine.records() == dormant


def test_a_state_of_other_sites_is_refused(rig: Rig) -> None:
    before = rig.engine.state()
    with pytest.raises(ValueError, match="the state is of the sites a; this engine has a, b, c"):
        rig.engine.restore(EngineState(before.records[:1]))
    assert rig.engine.state() == before


def test_figures_of_seeds_that_nobody_asks_about_do_no_harm(rig: Rig) -> None:
    assert rig.propose(rig.germinate(), {"z#7": SeedFigures("z#7")}).applied
