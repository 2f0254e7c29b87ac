"""Claims about the event log: its table, and how others read it."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.database import DatabaseDamaged, DatabaseUnavailable
from esper.journal import book as book_module
from esper.journal.book import Book, in_memory, open_book
from esper.journal.events import BATCH, Entry, page
from esper.journal.reading import EVENTS, Reader, Told, leave, line_of, lines
from esper.journal.schema import FILE, LAYOUT
from esper.journal.seal import SEAL_BYTES, seal, storable
from tests.esper.journal.samples import entry
from tests.esper.urza.world import in_memory as in_memory_folder

ENTRIES = st.builds(
    Entry,
    st.sampled_from(["telemetry", "field-report"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=40),
)


@settings(max_examples=40)
@given(st.lists(ENTRIES, max_size=30))
def test_the_log_is_a_list_without_repeats(told: list[Entry]) -> None:
    book, model = in_memory(), dict[tuple[str, str], Entry]()
    for one in told:
        assert book.events.append(one) is ((one.topic, one.event_id) not in model)
        model.setdefault((one.topic, one.event_id), one)
    some = page(book, 0, 1_000)
    assert (list(some.entries), some.damaged, some.ended) == (list(model.values()), (), True)
    assert book.events.count() == len(model)
    book.close()


@settings(max_examples=40)
@given(st.lists(st.lists(ENTRIES, max_size=6), max_size=8))
def test_events_that_come_together_are_written_as_if_one_by_one(told: list[list[Entry]]) -> None:
    together, model = in_memory(), in_memory()
    for some in told:
        together.events.extend(some)
        for one in some:
            model.events.append(one)
    everything = "SELECT * FROM events ORDER BY ordinal"
    assert together.rows(everything) == model.rows(everything)
    together.close()
    model.close()


def test_more_events_than_one_statement_takes_are_written() -> None:
    book = in_memory()
    book.events.append(entry(40))
    book.events.extend([entry(number) for number in range(100)])
    some = page(book)
    assert [one.time_ns for one in some.entries] == [40, *(n for n in range(100) if n != 40)]
    assert some.damaged == ()
    book.close()


def test_the_log_is_read_in_pages(tmp_path: Path) -> None:
    with closing(tmp_path, BATCH + 7):
        pass
    told = Told()
    numbers = [msgspec.json.decode(line)["time_ns"] for line in lines(tmp_path, told)]
    assert (numbers, told.damaged) == (list(range(BATCH + 7)), [])


def test_changed_and_missing_events_are_named_and_the_others_given() -> None:
    book = in_memory()
    for number in range(8):
        book.events.append(entry(number))
    book.run("UPDATE events SET message = ? WHERE ordinal = 2", b"{}")
    book.run("DELETE FROM events WHERE ordinal IN (4, 5)")
    book.run("UPDATE events SET topic = 'x' WHERE ordinal = 7")
    some = page(book)
    assert [one.time_ns for one in some.entries] == [0, 2, 5, 7]
    assert some.damaged == ("event 2 is damaged", "events 4 to 5 are missing", "event 7 is damaged")
    book.close()


def closing(folder: Path, count: int) -> "Filled":
    return Filled(folder, count)


class Filled:
    """A journal with some events, open inside the block."""

    def __init__(self, folder: Path, count: int) -> None:
        self.book, _ = open_book(folder / FILE)
        with self.book.transaction():
            for number in range(count):
                assert self.book.events.append(entry(number))

    def __enter__(self) -> Book:
        return self.book

    def __exit__(self, *_: object) -> None:
        self.book.finish()


def test_a_reader_sees_a_journal_that_is_being_written_and_changes_nothing(tmp_path: Path) -> None:
    with closing(tmp_path, 3) as book:
        assert leave(tmp_path) == ()
        assert len((tmp_path / EVENTS).read_bytes().splitlines()) == 3
        reader = Reader(tmp_path / FILE)
        with book.transaction():
            book.events.append(entry(3))
            assert len(page(reader).entries) == 3
        assert len(page(reader).entries) == 4
        with pytest.raises(DatabaseUnavailable, match="readonly"):
            reader.rows("DELETE FROM events")
        reader.close()
        assert book.events.count() == 4


def test_the_journal_of_a_killed_run_is_read_without_its_being_changed(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    (tmp_path / "live").mkdir()
    with closing(tmp_path / "live", 5):
        shutil.copytree(tmp_path / "live", killed)
    before = {name: (killed / name).read_bytes() for name in (FILE, f"{FILE}-wal")}
    told = Told()
    assert len(list(lines(killed, told))) == 5
    assert {name: (killed / name).read_bytes() for name in before} == before


def test_reading_a_journal_that_is_closed_leaves_nothing_beside_it(tmp_path: Path) -> None:
    with closing(tmp_path, 5):
        pass
    assert len(list(lines(tmp_path, Told()))) == 5
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_no_journal_and_no_database_are_said(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"there is no journal\.sqlite in "):
        list(lines(tmp_path, Told()))
    (tmp_path / FILE).write_bytes(b"no database at all " * 100)
    with pytest.raises(DatabaseDamaged, match=r"journal\.sqlite is damaged"):
        leave(tmp_path)
    assert not (tmp_path / EVENTS).exists()


def test_a_line_has_the_message_as_it_was_written() -> None:
    line = line_of(Entry("telemetry", "a", 7, b'{"x":[1,null]}'))
    assert line == b'{"time_ns":7,"topic":"telemetry","event_id":"a","message":{"x":[1,null]}}\n'


def test_a_seal_tells_values_apart_wherever_one_ends() -> None:
    seals = {
        seal("events", "ab", "c"),
        seal("events", "a", "bc"),
        seal("reports", "ab", "c"),
        seal("events", "ab", "c", b""),
        seal("events", "ab", 0),
    }
    assert len(seals) == 5
    assert {len(one) for one in seals} == {SEAL_BYTES}
    assert seal("events", "ab", "c") == seal("events", b"ab", b"c"), "as the text is stored"


def test_a_lone_surrogate_is_written_out() -> None:
    assert storable("a\ud800é") == "a\\ud800é"


def test_a_long_log_is_taken_into_the_file_and_cut_off_even_if_a_reader_was_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(book_module, "CUT_AT_BYTES", 50_000)
    monkeypatch.setattr(book_module, "LAYOUT", replace(LAYOUT, busy_s=0.01))
    with in_memory_folder() as folder, closing(folder, 0) as book:
        wal = folder / f"{FILE}-wal"
        reader = sqlite3.connect(folder / FILE, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        for number in range(100):
            with book.transaction():
                book.events.append(entry(number, 2_000))
            book.trim()
        assert wal.stat().st_size > 100_000
        reader.execute("COMMIT")
        reader.close()
        for number in range(100, 200):
            with book.transaction():
                book.events.append(entry(number, 2_000))
            book.trim()
        assert wal.stat().st_size < 400_000
        assert book.events.count() == 200
