"""Claims about the event log."""

import subprocess
import sys
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


def full_from(size: int) -> str:
    """A program that writes a hundred lines to a disk that takes `size` bytes of a file."""
    return f"""
import resource, signal, sys
from pathlib import Path
from actors.nissa.journal import Journal
from tests.actors.nissa.test_journal import line
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
with Journal(Path(sys.argv[1])) as journal:
    for number in range(100):
        journal.write(line(number))
print(journal.lines, journal.broken)
"""


@pytest.mark.parametrize("size", [0, 3_000, 12_345])
def test_a_full_disk_ends_the_journal_with_a_whole_line_and_nothing_else(size: int, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    program = [sys.executable, "-B", "-c", full_from(size), str(file)]
    said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert said.endswith("File too large\n")
    numbers = [msgspec.json.decode(one)["time_ns"] for one in file.read_bytes().splitlines()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < 100
    assert file.read_bytes()[-1:] in (b"", b"\n")


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.close()
    journal.close()
    assert journal.broken == ""


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Journal(tmp_path / "nowhere" / "events.jsonl")
