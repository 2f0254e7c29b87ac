"""Claims about what is recorded of a boundary."""

from dataclasses import replace

import pytest

from actors.orders import command_of
from contracts.emergency import BreakerOrder, SeedOrder
from contracts.growth import GateVerdict, SeedRecord
from contracts.lifecycle import Gate, Stage
from contracts.messages import AdaptationCommand
from esper.boundary import Boundary, epoch_facts, take_down
from esper.kasmina.plan import Fossilize, GraftPlan, Note, Remove, Verdict
from esper.report.record import Recorder
from esper.tamiyo.action import Cull, Wait, command_for
from esper.tolaria.results import Assembled
from tests.esper.tamiyo.views import seed, state, view

WAITS = command_for(Wait(), "c1", "test", 0)


def boundary(
    verdict: Verdict | None,
    command: AdaptationCommand = WAITS,
    fallback: str = "",
    total_s: float = 0.002,
    keep_s: float = 0.0,
) -> Boundary:
    facts = state(4)
    known = {**facts.training_metrics, "learning_rate": 0.01}
    assembled = Assembled(
        type(facts)(**{**{f: getattr(facts, f) for f in facts.__struct_fields__}, "training_metrics": known}),
        view(4, (seed(Stage.PROBATIONARY, gain=0.3),)),
        {},
    )
    decide_s = total_s - 0.001 - keep_s
    return Boundary(assembled, command, verdict, fallback, 0.0005, decide_s, 0.0005, keep_s=keep_s)


def record(stage: Stage, epoch: int = 4) -> SeedRecord:
    return SeedRecord("body.0#1", "body.0", stage, "BP003", 100, stage_epoch=epoch)


def test_the_epoch_is_recorded_with_the_boundarys_times() -> None:
    recorder = Recorder()
    take_down(recorder, boundary(Verdict(GraftPlan("p"), True)), {}, 0.018)
    (facts,) = recorder.recorded.epochs
    assert facts.boundary_ms is not None
    assert (facts.boundary_ms.assemble, facts.boundary_ms.total) == (0.5, 2.0)
    assert recorder.recorded.applied == {"WAIT": 1}
    assert recorder.recorded.alerts == []


def test_a_missing_decision_and_a_long_boundary_raise_alerts() -> None:
    recorder = Recorder()
    take_down(recorder, boundary(None, fallback="tamiyo did not answer", total_s=0.02), {}, 0.018)
    assert recorder.recorded.late == 1
    assert {alert.name for alert in recorder.recorded.alerts} == {"decision_missing", "boundary_over_budget"}


def test_the_copy_is_a_part_of_the_boundary_and_of_what_breaks_its_budget() -> None:
    recorder = Recorder()
    slow = boundary(Verdict(GraftPlan("p"), True), total_s=0.02, keep_s=0.016)
    take_down(recorder, slow, {}, 0.018)
    (facts,) = recorder.recorded.epochs
    assert facts.boundary_ms is not None
    assert facts.boundary_ms.keep == pytest.approx(16.0)
    assert facts.boundary_ms.total == pytest.approx(20.0)
    assert slow.worked_s == pytest.approx(0.004)
    assert [(alert.name, alert.text) for alert in recorder.recorded.alerts] == [
        (
            "boundary_over_budget",
            "the boundary took 20.0 ms, 16.0 of them to copy the run; the budget is 18 ms",
        )
    ]


def test_a_refusal_is_recorded_with_its_reason_and_gate() -> None:
    recorder = Recorder()
    gate = GateVerdict(Gate.G4_SYSTEM_IMPACT, False, "no gain", {}, "body.0#1")
    take_down(recorder, boundary(Verdict(GraftPlan("p"), False, "G4 did not pass", (gate,))), {}, 0.018)
    assert [refusal.reason for refusal in recorder.recorded.refused] == ["G4 did not pass"]
    assert [(fail.seed_id, fail.gate) for fail in recorder.recorded.failed] == [("body.0#1", gate.gate.name)]
    assert recorder.recorded.applied == {}


def test_stages_that_a_seed_entered_are_news_and_housekeeping_is_not() -> None:
    plan = GraftPlan("p", (Fossilize(record(Stage.FOSSILIZED)), Note(record(Stage.EMBARGOED))))
    changes = take_down(Recorder(), boundary(Verdict(plan, True)), {}, 0.018)
    assert [change.record.stage for change in changes] == [Stage.FOSSILIZED]


def test_a_cull_keeps_its_reason() -> None:
    recorder = Recorder()
    recorder.seed(record(Stage.GERMINATED, 1), 1)
    plan = GraftPlan("p", (Remove(record(Stage.CULLED), rollback=False),))
    command = command_for(Cull("body.0#1", reason="it does not pay"), "c1", "test", 0)
    take_down(recorder, boundary(Verdict(plan, True), command), {}, 0.018)
    graft = recorder.recorded.grafts["body.0#1"]
    assert (graft.outcome, graft.reason) == ("culled", "it does not pay")


@pytest.mark.parametrize(
    ("order", "listed"),
    [
        (SeedOrder("terminate", "body.0#1"), ("TERMINATE", "body.0#1")),
        (SeedOrder("cull", "body.0#1"), ("CULL", "body.0#1")),
        (SeedOrder("pause", "body.0#1"), ("PAUSE", "body.0#1")),
        (SeedOrder("resume", "body.0#1"), ("RESUME", "body.0#1")),
        (BreakerOrder("open", "insert"), ("CIRCUIT_BREAKER", "insert")),
    ],
)
def test_what_an_operator_asked_for_is_listed_as_that(
    order: SeedOrder | BreakerOrder, listed: tuple[str, str]
) -> None:
    command = command_of(order, "c1", 0, 1000)
    refused, done = Recorder(), Recorder()
    take_down(refused, boundary(Verdict(GraftPlan("p"), False, "not now"), command), {}, 0.018)
    assert [(one.operation, one.target) for one in refused.recorded.refused] == [listed]
    assert refused.recorded.applied == {}
    take_down(done, boundary(Verdict(GraftPlan("p"), True), command), {}, 0.018)
    assert done.recorded.applied == {listed[0]: 1}


def test_an_epoch_knows_its_steps() -> None:
    assembled = boundary(None).assembled
    assert epoch_facts(replace(assembled, steps=7)).steps == 7
