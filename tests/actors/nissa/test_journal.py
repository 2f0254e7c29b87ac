"""Claims about the event log."""

from pathlib import Path

import msgspec
import pytest

from actors.nissa.journal import FLUSH_EVERY, Journal, Line
from contracts.messages import TelemetryEvent, TelemetryPacket


def line(number: int) -> Line:
    packet = TelemetryPacket(f"p{number}", number, "tolaria", events=(TelemetryEvent("e", "grew"),))
    return Line(number, "telemetry", f"p{number}", packet)


def test_every_line_is_one_object_that_can_be_read_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "events.jsonl") as journal:
        for number in range(100):
            journal.write(line(number))
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    decoded = [msgspec.json.decode(one) for one in lines]
    assert [one["time_ns"] for one in decoded] == list(range(100))
    assert decoded[3]["message"]["events"][0]["description"] == "grew"


def test_a_reader_is_never_far_behind(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with Journal(file) as journal:
        for number in range(FLUSH_EVERY * 3 + 5):
            journal.write(line(number))
            assert number - len(file.read_bytes().splitlines()) < FLUSH_EVERY


def test_a_figure_that_is_no_number_is_null(tmp_path: Path) -> None:
    from contracts.messages import MetricPoint

    packet = TelemetryPacket("p", 0, "tolaria", metrics=(MetricPoint("loss", float("nan")),))
    with Journal(tmp_path / "e") as journal:
        journal.write(Line(0, "telemetry", "p", packet))
    assert msgspec.json.decode((tmp_path / "e").read_bytes())["message"]["metrics"][0]["value"] is None


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Journal(tmp_path / "nowhere" / "events.jsonl")
