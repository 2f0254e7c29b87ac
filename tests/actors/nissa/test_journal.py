"""Claims about the event log."""

import asyncio
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from actors import scribe as scribe_module
from actors.nissa.journal import Journal, Line
from actors.scribe import ThreadScribe
from contracts import topics
from contracts.messages import MetricPoint, TelemetryPacket
from esper.journal.book import open_book
from esper.journal.schema import EVENTS, FILE
from tests.esper.journal.samples import packet, report
from tests.esper.journal.workload import events_of
from tests.syscalls import supervised


def line(number: int) -> Line:
    return Line(number, "telemetry", f"p{number}", packet(number))


def report_line(number: int, event_id: str = "") -> Line:
    one = report(number)
    return Line(number, topics.FIELD_REPORT, event_id or one.report_id, one)


def left(folder: Path) -> list[dict[str, object]]:
    return [msgspec.json.decode(one) for one in (folder / EVENTS).read_bytes().splitlines()]


def test_every_line_is_one_object_that_can_be_read_back(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for number in range(100):
            assert journal.write(line(number))
    assert [one["time_ns"] for one in left(tmp_path)] == list(range(100))
    assert left(tmp_path)[3]["message"]["events"][0]["description"] == "g" * 10  # type: ignore[index]
    assert list(journal.troubles()) == []
    assert journal.lines == 100


def test_whoever_follows_a_run_sees_what_is_on_the_disk(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for number in range(100):
            journal.write(line(number))
        asyncio.run(journal.settle())
        assert [one["time_ns"] for one in events_of(tmp_path)[0]] == list(range(100))
        assert not (tmp_path / EVENTS).exists()


def test_a_figure_that_is_no_number_is_null(tmp_path: Path) -> None:
    one = TelemetryPacket("p", 0, "tolaria", metrics=(MetricPoint("loss", float("nan")),))
    with Journal(tmp_path) as journal:
        journal.write(Line(0, "telemetry", "p", one))
    assert left(tmp_path)[0]["message"]["metrics"][0]["value"] is None  # type: ignore[index]


def test_a_resumed_run_tells_what_it_told_before_without_a_second_line(tmp_path: Path) -> None:
    for process in (range(6), range(4, 9)):
        with Journal(tmp_path) as journal:
            for number in process:
                assert journal.write(line(number))
    assert [one["event_id"] for one in left(tmp_path)] == [f"p{number}" for number in range(9)]


def test_a_field_report_is_taken_once_whatever_brings_it_again(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        assert journal.write(report_line(1))
        asyncio.run(journal.settle())
        assert journal.taken() == ("run-r1",)
        assert journal.taken() == ()
        assert not journal.write(report_line(1, "run-r1~1")), "sent again"
        assert journal.taken() == ("run-r1",), "and acknowledged again"
    with Journal(tmp_path) as journal:
        assert not journal.write(report_line(1)), "of the resumed run"
        assert journal.write(report_line(2))
        assert journal.taken()[0] == "run-r1"
    assert [one["event_id"] for one in left(tmp_path)] == ["run-r1", "run-r2"]


def test_a_field_report_is_not_taken_before_it_is_on_the_disk() -> None:
    journal = Journal()
    journal.scribe.broken = "the disk is full"  # type: ignore[misc]
    assert journal.write(report_line(1))
    assert not journal.write(report_line(1)), "whoever counts it has counted it"
    assert journal.taken() == ()
    journal.close()


def test_a_journal_in_memory_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Journal() as journal:
        assert journal.write(report_line(1))
        assert journal.taken() == ("run-r1",)
    assert list(tmp_path.iterdir()) == []


def write_to_a_small_disk(folder: Path, say: Callable[[str], None], size: int) -> None:
    """A hundred lines on a disk that takes `size` bytes of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    with Journal(folder, ThreadScribe(folder / FILE, group_s=0.0)) as journal:
        for number in range(100):
            assert journal.write(line(number))
            asyncio.run(journal.settle())
            if not journal.broken:
                say(f"{number}")
    for name, text in journal.troubles():
        say(f"{name}: {text}")


@pytest.mark.parametrize("size", [0, 3_000, 70_000, 200_000])
def test_a_disk_that_takes_no_more_ends_the_journal_and_what_it_took_is_whole(
    size: int, tmp_path: Path
) -> None:
    ended = supervised(
        lambda say: write_to_a_small_disk(tmp_path, say, size), tmp_path, lambda call, said: None
    )
    *numbers, trouble = ended.said
    assert ended.status == 0
    assert trouble.startswith(f"journal_broken: {tmp_path / FILE} ends early: ")
    assert numbers == [str(number) for number in range(len(numbers))]
    assert (size >= 70_000) == (len(numbers) > 0)
    if numbers:
        events, damaged = events_of(tmp_path)
        assert ([str(one["time_ns"]) for one in events][: len(numbers)], damaged) == (numbers, [])
    book, notes = open_book(tmp_path / FILE)
    book.close()
    assert notes == ()


def test_a_disk_that_is_too_slow_costs_lines_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scribe_module, "POSTED_MAX", 10)
    at_work, release = threading.Event(), threading.Event()
    with Journal(tmp_path) as journal:
        journal.scribe.post(lambda book: (at_work.set(), release.wait(20)))
        assert at_work.wait(20)
        for number in range(25):
            assert journal.write(line(number))
        release.set()
    assert journal.left_out == 15
    told = f"{tmp_path / FILE} lacks {journal.left_out} events: the disk was too slow for them"
    assert list(journal.troubles()) == [("journal_slow", told)]
    assert [one["time_ns"] for one in left(tmp_path)] == list(range(journal.lines)) == list(range(10))


def test_a_damaged_journal_is_told_and_a_new_one_begun(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"This is no database. " * 300)
    with Journal(tmp_path) as journal:
        assert journal.write(line(0))
    ((name, text),) = journal.troubles()
    assert name == "journal_damaged"
    assert f"it is now {FILE}.damaged-1" in text
    assert len(left(tmp_path)) == 1


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    journal.close()
    assert journal.broken == ""


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Journal(tmp_path / "nowhere")
