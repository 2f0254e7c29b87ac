"""Claims about observation windows and field reports."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.control import Decided
from contracts.growth import Candidate, Path
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import AdaptationCommand, FieldReportOutcome
from esper.tamiyo.action import Advance, Germinate, Wait, command_for
from esper.tamiyo.observation import Observation
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


def test_windows_that_the_end_cuts_off_have_ids_of_their_own() -> None:
    observation = Observation("run", "v1", 3)
    observation.watch(decided(ADVANCES, 10), 0)
    kept = observation.remember()
    cut = observation.close(state(11), view(11), 0)
    assert [one.report_id for one in cut] == [f"run-cut{state(11).global_step}-1"]
    again = Observation("run", "v1", 3)
    again.recall(kept)
    (full,) = again.watch(Decided(WAITS, state(13), view(13), True), 0)
    assert (full.report_id, full.command_id) == ("run-r1", cut[0].command_id)


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
