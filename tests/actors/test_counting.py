"""Claims about what is counted of epochs and boundaries."""

import pytest

from actors.counting import count_boundary, count_epoch
from actors.nissa.counters import RunCounters
from contracts.growth import GateVerdict, SeedRecord
from contracts.lifecycle import Gate, Stage
from esper.boundary import Boundary
from esper.kasmina.plan import Fossilize, GraftPlan, Note, Verdict
from tests.esper.test_boundary import boundary, record


def counted(*boundaries: Boundary) -> RunCounters:
    counters = RunCounters()
    for one in boundaries:
        count_boundary(counters, one)
    return counters


def test_an_epochs_counters_are_those_of_its_state_and_of_the_seeds_there_are() -> None:
    counters, assembled = RunCounters(), boundary(None).assembled
    count_epoch(counters, assembled)
    training = counters.training
    assert (training.epochs, training.steps) == (assembled.growth.epoch, assembled.state.global_step)
    assert (training.host_params, training.grown_params) == (338, assembled.growth.params - 338)
    assert [stage for stage, count in counters.growth.seeds.items() if count] == [Stage.PROBATIONARY]


def test_a_boundary_counts_its_command_and_its_gates() -> None:
    gates = (
        GateVerdict(Gate.G0_SANITY, True, "", {}, "body.0#1"),
        GateVerdict(Gate.G4_SYSTEM_IMPACT, False, "no gain", {}, "body.0#1"),
    )
    applied, refused = Verdict(GraftPlan("p"), True), Verdict(GraftPlan("p"), False, "no", gates)
    growth = counted(boundary(applied), boundary(refused), boundary(None, fallback="late")).growth
    assert (growth.commands["applied"], growth.commands["refused"]) == (1, 1)
    assert (growth.gates_passed[Gate.G0_SANITY], growth.gates_failed[Gate.G4_SYSTEM_IMPACT]) == (1, 1)


def test_a_decision_that_did_not_come_and_a_budget_that_was_broken_are_counted() -> None:
    figures = counted(boundary(None, fallback="late"), boundary(None, total_s=0.5)).boundary
    assert (figures.decision_timeouts, figures.over_budget) == (1, 1)


@pytest.mark.parametrize(
    ("change", "outcomes"),
    [
        (Fossilize(record(Stage.FOSSILIZED)), {"fossilized": 1}),
        (Note(record(Stage.CULLED)), {"culled": 1}),
        (Note(record(Stage.TERMINATED)), {"terminated": 1}),
        (Note(record(Stage.TRAINING)), {}),
        (Note(record(Stage.CULLED, epoch=3)), {}),
    ],
)
def test_a_seed_that_ended_at_this_boundary_is_counted_by_how(
    change: Fossilize | Note, outcomes: dict[str, int]
) -> None:
    grafts = counted(boundary(Verdict(GraftPlan("p", (change,)), True))).growth.grafts
    assert {name: count for name, count in grafts.items() if count} == outcomes


def test_a_rollback_of_a_seed_is_no_cull() -> None:
    back = SeedRecord("body.0#1", "body.0", Stage.CULLED, "BP003", stage_epoch=4, rolled_back=True)
    grafts = counted(boundary(Verdict(GraftPlan("p", (Note(back),)), True))).growth.grafts
    assert {name: count for name, count in grafts.items() if count} == {"rolled_back": 1}
