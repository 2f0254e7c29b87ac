"""Claims about observation windows and field reports."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.control import Decided
from contracts.growth import Candidate, Path
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import (
    AdaptationCommand,
    CommandSeedOperation,
    CommandType,
    FieldReport,
    FieldReportOutcome,
)
from esper.tamiyo.action import Advance, Cull, Germinate, Wait, command_for
from esper.tamiyo.observation import CLOSED_MAX, UNDONE, UNSETTLED_MAX, Observation
from tests.esper.tamiyo.views import seed, state, view

WAITS = command_for(Wait(), "later", "test", 0)
ADVANCES = command_for(Advance("body.0#1", SeedOperation.FOSSILIZE), "c1", "test", 0)


def decided(command: AdaptationCommand, epoch: int, applied: bool = True, loss: float = 1.0) -> Decided:
    return Decided(command, state(epoch, loss=loss), view(epoch), applied, "" if applied else "because")


def watched(gain: float | None, applied: bool = True) -> FieldReportOutcome:
    observation = Observation("run", "v1", 3)
    assert observation.watch(decided(ADVANCES, 10, applied), 0) == ()
    grown = view(13, (seed(Stage.PROBATIONARY, gain=gain),))
    (report,) = observation.watch(Decided(WAITS, state(13), grown, True), 99)
    assert report.command_id == "c1"
    assert report.seed_id == "body.0#1"
    assert report.observation_window_epochs == 3
    assert report.notes == ("" if applied else "because")
    return report.outcome


def test_a_gain_is_a_success_and_a_loss_a_regression() -> None:
    assert watched(0.1) is FieldReportOutcome.SUCCESS
    assert watched(-0.1) is FieldReportOutcome.REGRESSION
    assert watched(0.0001) is FieldReportOutcome.NEUTRAL


def taken_out(command: AdaptationCommand, gain: float | None, applied: bool = True) -> FieldReport:
    """The report on what took out a seed that gained this much; another one grows there by then."""
    observation = Observation("run", "v1", 3)
    there = seed(Stage.PROBATIONARY, gain=gain)
    observation.watch(Decided(command, state(10), view(10, (there,)), applied), 0)
    later = seed(Stage.PROBATIONARY, gain=0.3)
    record = later.record if not applied else replace(later.record, seed_id="body.0#2", born_epoch=12)
    after = view(13, (replace(later, record=record),))
    (report,) = observation.watch(Decided(WAITS, state(13, loss=5.0), after, True), 0)
    return report


CULLS = command_for(Cull("body.0#1"), "c1", "test", 0)
CANCELS = AdaptationCommand(
    "c1",
    CommandType.SEED,
    0,
    "test",
    target_seed_id="body.0#1",
    payload=CommandSeedOperation(SeedOperation.CANCEL),
)


@pytest.mark.parametrize("command", [CULLS, CANCELS])
@pytest.mark.parametrize(
    ("gain", "outcome"),
    [
        (0.067, FieldReportOutcome.REGRESSION),
        (-0.01, FieldReportOutcome.SUCCESS),
        (0.0001, FieldReportOutcome.NEUTRAL),
    ],
)
def test_who_takes_a_seed_out_gives_up_what_it_gained(
    command: AdaptationCommand, gain: float, outcome: FieldReportOutcome
) -> None:
    report = taken_out(command, gain)
    assert (report.seed_id, report.blueprint_id, report.outcome) == ("body.0#1", "BP003", outcome)
    assert (report.metrics["gain"], report.metrics["seed_gain"]) == (-gain, gain)


def test_a_cull_of_what_was_never_measured_is_neutral() -> None:
    report = taken_out(CULLS, None)
    assert (report.outcome, report.metrics.keys() & {"gain", "seed_gain"}) == (
        FieldReportOutcome.NEUTRAL,
        set(),
    )


def test_a_cull_that_was_refused_gives_nothing_up() -> None:
    report = taken_out(CULLS, 0.067, applied=False)
    assert report.outcome is FieldReportOutcome.ABORTED
    assert report.metrics["gain"] == 0.3, "the seed is there, and this is what it gains"
    assert "seed_gain" not in report.metrics


def test_a_command_has_one_report_however_often_its_window_closes() -> None:
    observation = Observation("run", "v1", 3)
    observation.watch(decided(ADVANCES, 10), 0)
    kept = observation.remember()
    (cut,) = observation.close(state(11), view(11), 0, resumable=True)
    assert observation.due(math.inf) == (), "it is for the caller alone"
    again = Observation("run", "v1", 3)
    again.recall(kept)
    (full,) = again.watch(decided(WAITS, 13), 0)
    assert (full.report_id, cut.report_id) == ("c1-r", "c1-r")
    assert (full.observation_window_epochs, cut.observation_window_epochs) == (3, 1)
    assert again.due(math.inf) == (full,)


def test_a_report_is_due_once_no_way_back_leads_before_its_closing_and_until_it_is_kept() -> None:
    observation = Observation("run", "v1", 3)
    observation.watch(decided(ADVANCES, 10), 0)
    (report,) = observation.watch(decided(WAITS, 13), 0)
    assert [observation.due(settled) for settled in (-1, 10, 13)] == [()] * 3
    assert observation.due(14) == observation.due(math.inf) == (report,)
    observation.kept(["another"])
    assert observation.due(14) == (report,)
    observation.kept([report.report_id])
    assert observation.due(math.inf) == ()


def test_what_a_rollback_undoes_is_reported_as_aborted_and_what_it_opens_again_is_not() -> None:
    observation = Observation("run", "v1", 3)
    for number in range(1, 6):
        observation.watch(decided(command_for(Wait(), f"c{number}", "test", 0), number), 0)
    at_3 = observation.remember()
    for number in range(6, 10):
        observation.watch(decided(command_for(Wait(), f"c{number}", "test", 0), number), 0)
    observation.go_back(at_3, 77)
    told = {one.command_id: one for one in observation.due(math.inf)}
    assert list(told) == ["c1", "c2", "c6", "c7", "c8", "c9"]
    assert [told[name].outcome for name in ("c2", "c6")] == [
        FieldReportOutcome.NEUTRAL,
        FieldReportOutcome.ABORTED,
    ]
    assert {told[name].notes for name in ("c6", "c7", "c8", "c9")} == {UNDONE}
    assert told["c7"].metrics == {}, "nothing was measured yet"
    assert "loss_delta" in told["c6"].metrics
    assert (told["c7"].issued_at, told["c7"].observation_window_epochs) == (77, 2)
    assert [one.command_id for one in observation.due(6)] == ["c1", "c2"], "another process may go on there"
    assert [one.decided.command.command_id for one in observation.remember().windows] == ["c3", "c4", "c5"]


def test_what_a_rollback_undid_stays_undone_over_another_one() -> None:
    observation = Observation("run", "v1", 1)
    beginning = observation.remember()
    observation.watch(decided(ADVANCES, 1), 0)
    observation.go_back(beginning, 0)
    observation.watch(decided(command_for(Wait(), "c2", "test", 0), 1), 0)
    observation.go_back(beginning, 0)
    assert [(one.command_id, one.notes) for one in observation.due(math.inf)] == [
        ("c1", UNDONE),
        ("c2", UNDONE),
    ]


def test_a_rollback_to_an_undone_future_lets_it_happen() -> None:
    """The disk may have nothing else, where no moment in memory can be gone back to."""
    observation = Observation("run", "v1", 3)
    beginning = observation.remember()
    observation.watch(decided(ADVANCES, 1), 0)
    then = observation.remember()
    observation.go_back(beginning, 0)
    observation.go_back(then, 0)
    assert observation.due(math.inf) == ()
    (report,) = observation.watch(decided(WAITS, 4), 0)
    assert (report.command_id, report.notes) == ("c1", "")


def test_reports_that_wait_are_bounded() -> None:
    observation = Observation("run", "v1", 1)
    for number in range(UNSETTLED_MAX + 3):
        observation.watch(decided(command_for(Wait(), f"c{number}", "test", 0), number), 0)
    assert [one.command_id for one in observation.due(-1)] == ["c0", "c1"], "the oldest are told all the same"
    assert observation.shed() == ()
    for number in range(UNSETTLED_MAX + 3, CLOSED_MAX + 3):
        observation.watch(decided(command_for(Wait(), f"c{number}", "test", 0), number), 0)
    assert [one.command_id for one in observation.shed()] == ["c0", "c1"]
    assert len(observation.remember().closed) == CLOSED_MAX


def test_what_was_not_measured_earns_no_credit() -> None:
    assert watched(None) is FieldReportOutcome.NEUTRAL


def test_a_command_that_was_not_carried_out_is_reported_as_aborted() -> None:
    assert watched(0.1, applied=False) is FieldReportOutcome.ABORTED


def test_the_hosts_own_drift_is_no_credit() -> None:
    observation = Observation("run", "v1", 3)
    observation.watch(decided(WAITS, 10, loss=2.0), 0)
    (report,) = observation.watch(decided(WAITS, 13, loss=0.5), 0)
    assert report.outcome is FieldReportOutcome.NEUTRAL
    assert report.metrics["loss_delta"] == -1.5


def test_a_germination_is_credited_to_the_seed_that_it_made() -> None:
    observation = Observation("run", "v1", 3)
    command = command_for(Germinate(Candidate("body.0", "BP003", {}), Path()), "c1", "test", 0)
    observation.watch(decided(command, 0), 0)
    grown = view(3, (seed(Stage.BLENDING, gain=0.2),))
    (report,) = observation.watch(Decided(WAITS, state(3), grown, True), 0)
    assert (report.seed_id, report.blueprint_id) == ("body.0#1", "BP003")
    assert report.outcome is FieldReportOutcome.SUCCESS


@given(st.integers(1, 6), st.integers(0, 40))
def test_every_command_gets_exactly_one_report(window: int, epochs: int) -> None:
    observation = Observation("run", "v1", window)
    reported: list[str] = []
    for epoch in range(epochs):
        command = command_for(Wait(), f"c{epoch}", "test", 0)
        reported += [report.command_id for report in observation.watch(decided(command, epoch), 0)]
    reported += [report.command_id for report in observation.close(state(epochs), view(epochs), 0)]
    assert reported == [f"c{epoch}" for epoch in range(epochs)]
    assert observation.close(state(epochs), view(epochs), 0) == ()
