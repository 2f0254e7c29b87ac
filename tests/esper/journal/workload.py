"""A piece of a run's life on disk, and what must be left of it wherever it was cut off."""

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import torch

from actors.nissa.journal import READER, Journal, Line
from actors.scribe import Broken, ThreadScribe
from contracts import topics
from esper.checkpoint.store import Checkpoint, CheckpointStore
from esper.journal import book as book_module
from esper.journal.book import Book, open_book
from esper.journal.reading import EVENTS, Told, lines
from esper.journal.reports import Kept
from esper.journal.schema import FILE
from tests.esper.journal.samples import NOW_NS, entry, packet, report

KEEP = 2
"""Checkpoints."""
CUT_AT_BYTES = 60_000
"""So that the write-ahead log is cut off several times."""


def live(folder: Path, say: Callable[[str], None], steps: int = 6, size: int = 300) -> None:
    """Tell events, write and acknowledge reports, save checkpoints; says what is on the disk for good.

    A step is one group of events, one report, two acknowledgements and a checkpoint.
    """
    store = CheckpointStore(folder, KEEP)
    with _journal(folder) as journal:
        for step in range(steps):
            _step(journal, step, size, say)
            store.save(checkpoint(step))
            say(f"checkpoint {step}")
    say("left")
    assert journal.broken == ""


def suffer(folder: Path, say: Callable[[str], None], steps: int = 4, size: int = 300) -> None:
    """The same without checkpoints, on a disk that may fail: the life goes on, and its journal may not."""
    with _journal(folder) as journal:
        for step in range(steps):
            with suppress(Broken):
                _step(journal, step, size, say)
            say(f"step {step}")
    say(f"broken {journal.broken}" if journal.broken else "left")


def _journal(folder: Path) -> Journal:
    book_module.CUT_AT_BYTES = CUT_AT_BYTES
    return Journal(folder, ThreadScribe(folder / FILE, group_s=0.0))


def _step(journal: Journal, step: int, size: int, say: Callable[[str], None]) -> None:
    scribe, one = journal.scribe, report(step)
    for number in range(step * 4, step * 4 + 4):
        journal.write(Line(number, topics.TELEMETRY, f"p{number}", packet(number, size)))
    scribe.wait(lambda book: None)
    say(f"events {step * 4 + 4}")
    assert scribe.wait(lambda book: book.reports.write(one, NOW_NS)) is Kept.NEW
    say(f"report {step}")
    journal.write(Line(step, topics.FIELD_REPORT, one.report_id, one))
    scribe.wait(lambda book: None)
    for report_id in journal.taken():
        say(f"taken {report_id}")
        scribe.wait(partial(_acknowledge, report_id))
        say(f"read {report_id}")


def _acknowledge(report_id: str, book: Book) -> None:
    assert book.reports.acknowledge([report_id], NOW_NS + 1) == 1


def checkpoint(epoch: int) -> Checkpoint:
    return Checkpoint(epoch, b'{"epoch": %d}' % epoch, {"weight": torch.full((40,), float(epoch))})


def events_of(folder: Path) -> tuple[list[dict[str, object]], list[str]]:
    """The event log, and what is said to be damaged in it."""
    told = Told()
    return [msgspec.json.decode(line) for line in lines(folder, told)], told.damaged


def check_whole(folder: Path, said: Collection[str], *, power_cut: bool = False) -> None:
    """All that was said is there, bit for bit, nothing is doubled or half there, and the run can go on.

    After a power cut the end of the log may be torn, and then it is named; after a kill it is not.

    Raises AssertionError.
    """
    book, notes = open_book(folder / FILE)
    assert all("log was torn" in note for note in notes) if power_cut else notes == (), notes
    check_events(folder, said, left="left" in said and not power_cut)
    check_checkpoints(folder, said, power_cut)
    check_reports(book, said)
    with book.transaction():
        assert book.events.append(entry(10_000))
    book.close()
    assert events_of(folder)[0][-1]["event_id"] == "p10000"


def check_events(folder: Path, said: Collection[str], left: bool) -> None:
    told = max((int(line.split()[1]) for line in said if line.startswith("events")), default=0)
    events, damaged = events_of(folder)
    assert damaged == []
    telemetry = [one for one in events if one["topic"] == topics.TELEMETRY]
    assert len(telemetry) >= told
    size = len(str(telemetry[0]["message"]["events"][0]["description"])) if telemetry else 0  # type: ignore[index]
    for number, one in enumerate(telemetry):
        assert one == {
            "time_ns": number,
            "topic": topics.TELEMETRY,
            "event_id": f"p{number}",
            "message": msgspec.json.decode(msgspec.json.encode(packet(number, size))),
        }
    ids = [one["event_id"] for one in events if one["topic"] == topics.FIELD_REPORT]
    assert ids == [f"run-r{number}" for number in range(len(ids))]
    if (folder / EVENTS).exists() or left:
        content = (folder / EVENTS).read_bytes()
        assert [msgspec.json.decode(line) for line in content.splitlines()] == events
        assert content[-1:] in (b"", b"\n")


def check_reports(book: Book, said: Collection[str]) -> None:
    pending = book.reports.pending(1_000)
    assert pending.damaged == ()
    waiting = {one.report_id for one in pending.reports}
    for one in pending.reports:
        assert msgspec.msgpack.encode(one) == msgspec.msgpack.encode(report(int(one.report_id[5:])))
    rows = [str(name, "utf-8") for (name,) in book.rows("SELECT report_id FROM reports ORDER BY ordinal")]
    assert rows == [f"run-r{number}" for number in range(len(rows))]
    seen, damaged = book.seen.taken(READER)
    assert damaged == ()
    for line in said:
        match line.split():
            case ["report", number]:
                assert f"run-r{number}" in rows
            case ["read", report_id]:
                assert report_id not in waiting
            case ["taken", report_id]:
                assert report_id in seen


def check_checkpoints(folder: Path, said: Collection[str], power_cut: bool) -> None:
    saved = max((int(line.split()[1]) for line in said if line.startswith("checkpoint")), default=-1)
    found = CheckpointStore(folder, KEEP).newest()
    assert found.passed_over == () or power_cut
    if found.checkpoint is None:
        assert saved == -1
    else:
        assert found.checkpoint.epoch >= saved
        wanted = checkpoint(found.checkpoint.epoch)
        assert found.checkpoint.record == wanted.record
        assert torch.equal(found.checkpoint.tensors["weight"], wanted.tensors["weight"])
