"""Reports and events to write down."""

import msgspec

from contracts.messages import FieldReport, FieldReportOutcome, TelemetryEvent, TelemetryPacket
from esper.journal.events import Entry

DAY_NS = 24 * 3600 * 10**9
NOW_NS = 1_800_000_000 * 10**9


def report(number: int, says: float = 0.0, issued_at: int = 0) -> FieldReport:
    """The n-th report of a run, which says `says`."""
    return FieldReport(
        report_id=f"run-r{number}",
        command_id=f"command-{number}",
        training_run_id="run",
        seed_id=f"body.0#{number}",
        blueprint_id="BP001",
        outcome=FieldReportOutcome.SUCCESS,
        metrics={"gain": says, "loss_delta": float("nan")},
        observation_window_epochs=3,
        issued_at=issued_at,
        tamiyo_policy_version="heuristic-1",
    )


def packet(number: int, size: int = 10) -> TelemetryPacket:
    """The n-th packet of a run; its text has `size` characters."""
    return TelemetryPacket(f"p{number}", number, "tolaria", events=(TelemetryEvent("e", "g" * size),))


def entry(number: int, size: int = 10) -> Entry:
    """The n-th event of a run."""
    return Entry("telemetry", f"p{number}", number, msgspec.json.encode(packet(number, size)))
