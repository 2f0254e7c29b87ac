"""Who may say what until when; and that what is refused changes nothing at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.config import GateConfig, GrowthConfig
from contracts.lifecycle import Gate, SeedOperation, Stage
from contracts.messages import (
    AdaptationCommand,
    CircuitBreakerState,
    CommandCircuitBreaker,
    CommandPayload,
    CommandRollback,
    CommandSeedOperation,
    CommandType,
)
from esper.kasmina.admissible import FRESH_NS, check_issuer
from esper.kasmina.draft import Refused
from esper.kasmina.gates import judge, tightened
from tests import strategies
from tests.esper.kasmina.engine_world import AT_ONCE, Rig

NOW_NS = 10**18
PATIENT_MS = 120_000
ISSUERS = [
    "tamiyo/heuristic",
    "tamiyo/mine/too",
    "operator",
    "drill",
    "tolaria",
    "tamiyo",
    "Operator",
    "",
    "x",
]
ALLOWED = {"tamiyo/heuristic", "tamiyo/mine/too", "operator", "drill", "tolaria"}


def aged(rig: Rig, age_ns: int, deadline_ms: int) -> AdaptationCommand:
    command = rig.germinate()
    return replace(command, issued_at=NOW_NS - age_ns, execution_deadline_ms=deadline_ms)


@given(age_ns=st.one_of(st.integers(-2 * FRESH_NS, 2 * FRESH_NS), st.sampled_from((FRESH_NS, -FRESH_NS))))
def test_what_was_issued_more_than_a_minute_before_or_after_now_is_refused(age_ns: int) -> None:
    rig = Rig()
    state = rig.engine.state()
    verdict = rig.propose(aged(rig, age_ns, PATIENT_MS), now_ns=NOW_NS)
    assert verdict.applied is (abs(age_ns) <= FRESH_NS)
    assert verdict.applied or f"s {'before' if age_ns > 0 else 'after'} now, and 60 s" in verdict.refusal
    assert rig.engine.state() == state


@given(age_ns=st.integers(0, FRESH_NS), deadline_ms=st.integers(0, 60_000))
def test_no_command_is_executed_after_its_deadline(age_ns: int, deadline_ms: int) -> None:
    rig = Rig()
    verdict = rig.propose(aged(rig, age_ns, deadline_ms), now_ns=NOW_NS)
    assert verdict.applied is (age_ns <= deadline_ms * 1_000_000)


@pytest.mark.parametrize("issuer", ISSUERS)
def test_only_those_who_are_named_may_send_commands(issuer: str) -> None:
    rig = Rig()
    state = rig.engine.state()
    verdict = rig.propose(replace(rig.germinate(), issued_by=issuer))
    assert verdict.applied is (issuer in ALLOWED)
    assert verdict.applied or "may not send commands" in verdict.refusal
    assert rig.engine.state() == state


WALK = [
    SeedOperation.START_TRAINING,
    SeedOperation.START_GRAFTING,
    SeedOperation.STABILIZE,
    SeedOperation.EVALUATE,
    SeedOperation.FOSSILIZE,
    SeedOperation.CULL,
]
PAYLOADS: st.SearchStrategy[CommandPayload | None] = st.one_of(
    st.none(),
    st.builds(
        CommandSeedOperation,
        operation=st.sampled_from(SeedOperation),
        blueprint_id=st.sampled_from(("BP001", "BP901", "BP902", "BP903", "BP777")),
        parameters=st.dictionaries(
            st.sampled_from(("width", "blending_epochs", "odd")), st.floats(), max_size=2
        ),
    ),
    st.builds(CommandCircuitBreaker, desired_state=st.sampled_from(CircuitBreakerState)),
    st.just(CommandRollback()),
)
COMMANDS = st.builds(
    AdaptationCommand,
    command_id=st.just("any"),
    command_type=st.sampled_from(CommandType),
    issued_at=st.sampled_from((0, -61 * 10**9, 61 * 10**9, -19 * 10**6)),
    issued_by=st.sampled_from(ISSUERS),
    target_seed_id=st.sampled_from(("", "a#0", "b#0", "c#0", "z#9")),
    payload=PAYLOADS,
    annotations=st.dictionaries(
        st.sampled_from(("site", "resume", "operation", "rollback", "approved")),
        st.sampled_from(("a", "b", "true", "insert", "remove")),
    ),
)


@given(command=COMMANDS, conservative=st.booleans())
def test_whatever_is_refused_changes_nothing(command: AdaptationCommand, conservative: bool) -> None:
    rig = Rig()
    rig.grown(SeedOperation.START_TRAINING)  # at a; b is dormant, c culled
    rig.do(rig.germinate("c"))
    rig.do(rig.command(SeedOperation.CULL, "c#0"))
    before = rig.engine.state()
    verdict = rig.engine.propose(command, rig.healthy(), rig.epoch, 0, rig.params, conservative=conservative)
    assert rig.engine.state() == before, "to propose changes nothing"
    if verdict.applied:
        return
    assert verdict.refusal
    assert verdict.plan.changes == ()
    rig.take(verdict)
    after = rig.engine.state()
    assert (after.records, after.breakers) == (before.records, before.breakers)
    assert [one.command for one in after.outcomes] == [*(one.command for one in before.outcomes), command]


def test_in_conservative_mode_nothing_is_germinated_and_what_grows_goes_on() -> None:
    rig = Rig()
    rig.grown(SeedOperation.START_TRAINING)

    def careful(command: AdaptationCommand) -> str:
        return rig.engine.propose(command, rig.healthy(), 0, 0, 338, conservative=True).refusal

    assert "conservative mode: nothing is germinated" in careful(rig.germinate("b"))
    assert careful(rig.command(SeedOperation.START_GRAFTING)) == ""
    assert rig.propose(rig.germinate("b")).applied


def test_while_growth_rests_nothing_is_germinated_whoever_asks() -> None:
    rig = Rig()
    command = rig.germinate("a")
    resting = rig.engine.propose(command, {}, 0, 0, 338, resting=True)
    assert "growth rests after a trouble: nothing is germinated" in resting.refusal
    assert not resting.plan.changes
    assert not rig.do(rig.germinate("a")).refusal


def test_in_conservative_mode_a_seed_has_to_gain_more() -> None:
    rig = Rig(GrowthConfig(path=AT_ONCE, gates=GateConfig(gain_min=0.08, conservative_factor=0.5)))
    rig.grown(SeedOperation.EVALUATE)
    command, figures = rig.command(SeedOperation.FOSSILIZE), rig.healthy()  # gains 0.1 of 1
    assert rig.engine.propose(command, figures, 0, 0, 338).applied
    verdict = rig.engine.propose(command, figures, 0, 0, 338, conservative=True)
    assert "G4_SYSTEM_IMPACT did not pass" in verdict.refusal
    assert "at least 0.16" in verdict.refusal


@given(
    record=strategies.records(),
    figures=strategies.figures("layers.0#0"),
    factor=st.floats(0.01, 1.0),
    gate=st.sampled_from([gate for gate in Gate if gate is not Gate.UNKNOWN]),
)
def test_what_passes_a_tightened_gate_passes_the_gate(
    record: object, figures: object, factor: float, gate: Gate
) -> None:
    config = GateConfig(conservative_factor=factor, rent=0.01)
    strict = judge(gate, record, figures, tightened(config))  # type: ignore[arg-type]
    plain = judge(gate, record, figures, config)  # type: ignore[arg-type]
    assert plain.passed or not strict.passed


def test_a_factor_of_one_tightens_nothing() -> None:
    config = GateConfig(conservative_factor=1.0, interface_loss_ratio_max=0.5)
    assert tightened(config) == config


@pytest.mark.parametrize("embargo_epochs", [0, 1, 5])
def test_a_site_rests_as_long_as_it_should_across_a_restore(embargo_epochs: int) -> None:
    """It is free again at the third boundary after a cull at the earliest: culled, embargoed, resetting."""

    def free_at(restored_at: int | None) -> int:
        rig = Rig(GrowthConfig(path=AT_ONCE, embargo_epochs=embargo_epochs))
        rig.grown(SeedOperation.START_TRAINING)
        rig.do(rig.command(SeedOperation.CULL))
        while rig.epoch < 20:
            rig.epoch += 1
            if rig.epoch == restored_at:
                fresh = Rig(rig.config)
                fresh.engine.restore(rig.engine.state())
                fresh.epoch, fresh.commands, rig = rig.epoch, rig.commands, fresh
            rig.engine.commit(rig.propose(rig.pause()).plan.plan_id)
            if any(one.site == "a" and one.stage is Stage.DORMANT for one in rig.engine.records()):
                return rig.epoch
        raise AssertionError("the site never came free")

    expected = max(embargo_epochs, 2) + 1
    assert [free_at(when) for when in (None, 1, 2, 3, embargo_epochs)] == [expected] * 5


@pytest.mark.slow
def test_many_more_commands_that_are_refused_change_nothing() -> None:
    figures = {"refused": 0, "taken": 0}

    @settings(max_examples=4_000, deadline=None, database=None)
    @given(
        command=COMMANDS, conservative=st.booleans(), operations=st.lists(st.sampled_from(WALK), max_size=6)
    )
    def refused(command: AdaptationCommand, conservative: bool, operations: list[SeedOperation]) -> None:
        rig = Rig()
        rig.do(rig.germinate())
        for operation in operations:
            rig.do(rig.command(operation))
            rig.epoch += 1
        rig.do(rig.pause())
        before = rig.engine.state()
        verdict = rig.engine.propose(
            command, rig.healthy(), rig.epoch, 0, rig.params, conservative=conservative
        )
        assert rig.engine.state() == before
        figures["taken" if verdict.applied else "refused"] += 1
        if not verdict.applied:
            housekeeping = rig.propose(rig.pause()).plan.changes
            assert verdict.plan.changes == housekeeping

    refused()
    print(f"commands: {figures}")
    assert figures["refused"] > 3_000
    assert figures["taken"] > 0


def test_whom_one_run_names_another_need_not() -> None:
    command = replace(Rig().germinate(), issued_by="drill/one")
    check_issuer(command, ["drill/*"])
    with pytest.raises(Refused, match="'drill/one' may not send commands; operator may"):
        check_issuer(command, ["operator"])
    check_issuer(command, ["operator", "drill/*"])
