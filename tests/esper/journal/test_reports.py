"""Claims about field reports on the disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from esper.journal.book import Book, in_memory
from esper.journal.reports import BATCH, KEPT_NS, Kept
from tests.esper.journal.samples import NOW_NS, report

LATER_NS = NOW_NS + 5


@pytest.fixture
def book() -> Iterator[Book]:
    book = in_memory()
    yield book
    book.close()


def waiting(book: Book) -> list[str]:
    return [one.report_id for one in book.reports.pending(10_000).reports]


def test_a_report_waits_in_the_order_of_writing_until_it_is_acknowledged(book: Book) -> None:
    assert [book.reports.write(report(number), NOW_NS) for number in (2, 1, 3)] == [Kept.NEW] * 3
    assert waiting(book) == ["run-r2", "run-r1", "run-r3"]
    assert book.reports.acknowledge(["run-r1"], LATER_NS) == 1
    assert waiting(book) == ["run-r2", "run-r3"]
    assert repr(book.reports.pending(1).reports) == repr((report(2),))


def test_what_is_acknowledged_twice_or_unknown_changes_nothing(book: Book) -> None:
    book.reports.write(report(1), NOW_NS)
    assert book.reports.acknowledge(["run-r1", "run-r1", "run-r9"], LATER_NS) == 1
    before = book.rows("SELECT * FROM reports")
    assert book.reports.acknowledge(["run-r1", "run-r9"], LATER_NS + 1) == 0
    assert book.rows("SELECT * FROM reports") == before


def test_a_report_that_says_the_same_again_is_not_written_again(book: Book) -> None:
    book.reports.write(report(1, issued_at=1), NOW_NS)
    before = book.rows("SELECT * FROM reports")
    assert book.reports.write(report(1, issued_at=2), LATER_NS) is Kept.SAME
    assert book.rows("SELECT * FROM reports") == before


def test_what_nobody_has_taken_gives_way_to_what_the_resumed_run_says(book: Book) -> None:
    for number in (1, 2):
        book.reports.write(report(number), NOW_NS)
    assert book.reports.write(report(1, says=0.5), LATER_NS) is Kept.REPLACED
    assert waiting(book) == ["run-r2", "run-r1"]
    assert book.reports.pending(2).reports[1].metrics["gain"] == 0.5


@pytest.mark.parametrize("noted", ["acknowledged", "seen"])
def test_what_was_taken_stays_as_it_was(noted: str, book: Book) -> None:
    book.reports.write(report(1, issued_at=1), NOW_NS)
    if noted == "acknowledged":
        book.reports.acknowledge(["run-r1"], NOW_NS)
    else:
        book.seen.take("nissa", "run-r1")
    before = book.rows("SELECT * FROM reports")
    assert book.reports.write(report(1, says=0.5), LATER_NS) is Kept.REFUSED
    assert book.reports.write(report(1, issued_at=2), LATER_NS) is Kept.TAKEN
    assert book.rows("SELECT * FROM reports") == before


def test_what_was_taken_of_a_window_that_the_end_cut_off_stays_without_a_word(book: Book) -> None:
    book.reports.write(replace(report(1), observation_window_epochs=2), NOW_NS)
    book.reports.acknowledge(["run-r1"], NOW_NS)
    before = book.rows("SELECT * FROM reports")
    assert book.reports.write(report(1, says=0.5), LATER_NS) is Kept.TAKEN
    assert book.rows("SELECT * FROM reports") == before


def test_a_report_is_kept_a_day_and_one_that_nobody_took_is_named(book: Book) -> None:
    for number in range(4):
        book.reports.write(report(number), NOW_NS + number)
    book.reports.acknowledge(["run-r0"], NOW_NS)
    assert book.reports.expire(NOW_NS + KEPT_NS - 1) == (0, ())
    assert book.reports.expire(NOW_NS + KEPT_NS + 1) == (2, ("run-r1",))
    assert waiting(book) == ["run-r2", "run-r3"]


def test_a_clock_that_goes_back_removes_nothing(book: Book) -> None:
    book.reports.write(report(1), NOW_NS)
    assert book.reports.expire(NOW_NS - 10 * KEPT_NS) == (0, ())
    assert waiting(book) == ["run-r1"]


def test_what_was_taken_and_removed_is_not_announced_again(book: Book) -> None:
    """A run that is resumed from an old checkpoint days later writes the old reports again."""
    book.reports.write(report(1), NOW_NS)
    book.seen.take("nissa", "run-r1")
    book.reports.acknowledge(["run-r1"], NOW_NS)
    book.reports.expire(NOW_NS + KEPT_NS)
    assert book.reports.write(report(1), NOW_NS + 2 * KEPT_NS) is Kept.TAKEN
    assert waiting(book) == []


def test_a_damaged_report_is_named_and_holds_nobody_up(book: Book) -> None:
    for number in range(3):
        book.reports.write(report(number), NOW_NS)
    book.run("UPDATE reports SET payload = ? WHERE report_id = 'run-r0'", b"\xc1")
    book.run("UPDATE reports SET written_ns = written_ns + 1 WHERE report_id = 'run-r1'")
    pending = book.reports.pending(1)
    assert [one.report_id for one in pending.reports] == ["run-r2"]
    assert pending.damaged == ("run-r0", "run-r1")
    assert book.reports.acknowledge(["run-r0"], LATER_NS) == 0
    assert book.reports.write(report(0), LATER_NS) is Kept.REPLACED
    assert waiting(book) == ["run-r2", "run-r0"]


def test_a_long_line_is_read_in_pieces_and_what_is_held_is_left_out(book: Book) -> None:
    for number in range(2 * BATCH + 3):
        book.reports.write(report(number), NOW_NS)
    assert len(waiting(book)) == 2 * BATCH + 3
    held = frozenset(f"run-r{number}" for number in range(BATCH + 1))
    assert book.reports.pending(1, held).reports[0].report_id == f"run-r{BATCH + 1}"


def test_a_reader_takes_a_report_once_and_readers_are_told_apart(book: Book) -> None:
    assert [book.seen.take("nissa", "a"), book.seen.take("nissa", "a"), book.seen.take("simic", "a")] == [
        True,
        False,
        True,
    ]
    book.seen.take("simic", "b")
    assert book.seen.taken("nissa") == (frozenset({"a"}), ())
    book.run("UPDATE seen SET report_id = 'c' WHERE report_id = 'b'")
    assert book.seen.taken("simic") == (frozenset({"a"}), ("a note that c was taken is damaged",))


def test_reports_outlive_the_process(tmp_path: Path) -> None:
    book = Book(tmp_path / "j")
    book.reports.write(report(1), NOW_NS)
    book.close()
    again = Book(tmp_path / "j")
    assert waiting(again) == ["run-r1"]
    again.close()
