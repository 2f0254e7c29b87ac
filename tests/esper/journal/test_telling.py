"""Claims about the command that prints an event log."""

import os
import sys
from pathlib import Path

import msgspec
import pytest

from esper.journal.book import open_book
from esper.journal.reading import EVENTS
from esper.journal.schema import FILE
from esper.run import main
from tests.esper.journal.samples import entry


def journal(folder: Path, count: int, damaged: bool = False) -> None:
    book, _ = open_book(folder / FILE)
    with book.transaction():
        for number in range(count):
            book.events.append(entry(number))
    if damaged:
        book.run("UPDATE events SET message = ? WHERE ordinal = 2", b"{}")
    book.finish()


def test_it_prints_one_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal(tmp_path, 3)
    assert main(["events", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert [msgspec.json.decode(line)["event_id"] for line in said.out.splitlines()] == ["p0", "p1", "p2"]
    assert said.err == ""
    assert not (tmp_path / EVENTS).exists()


def test_it_leaves_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal(tmp_path, 3)
    assert main(["events", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert main(["events", str(tmp_path), "--write"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / EVENTS).read_text() == printed


def test_damaged_events_are_named_and_the_others_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal(tmp_path, 3, damaged=True)
    assert main(["events", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert said.err == "esper: event 2 is damaged\n"


def test_a_folder_without_a_journal_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", str(tmp_path / "nowhere")]) == 2
    assert main(["events", str(tmp_path), "--write"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    assert f"there is no {FILE} in {tmp_path}" in said.err
    assert list(tmp_path.iterdir()) == []


def test_whoever_reads_it_may_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path, 2_000)
    hear, say = os.pipe()
    os.close(hear)
    with os.fdopen(say, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["events", str(tmp_path)]) == 0
        assert pipe.closed
