"""Claims about the thread that writes the journal."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors import scribe as scribe_module
from actors.scribe import Broken, Gap, InlineScribe, Scribe, ThreadScribe, nothing
from esper.database import DatabaseUnavailable
from esper.journal.book import Book, open_book
from esper.journal.events import page
from esper.journal.notes import Note
from esper.journal.schema import FILE
from tests.esper.journal.samples import entry


@pytest.fixture(params=["thread", "inline"])
def scribe(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scribe]:
    made = ThreadScribe(tmp_path / FILE) if request.param == "thread" else InlineScribe()
    yield made
    made.close()


def count(book: Book) -> int:
    return book.events.count()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    never, left = threading.Event(), 4_000
    while not holds() and left:
        never.wait(0.005)
        left -= 1
    assert holds()


def test_work_is_done_in_the_order_in_which_it_was_handed_over(scribe: Scribe) -> None:
    seen: list[int] = []

    async def main() -> None:
        for number in range(50):
            assert scribe.post(
                lambda book, number=number: seen.append(book.events.append(entry(number)) * number)
            )
            if number % 10 == 0:
                assert await scribe.run(count) == number + 1

    asyncio.run(main())
    assert scribe.wait(count) == 50
    assert seen == list(range(50))


def test_work_that_fails_by_itself_changes_nothing_and_takes_nothing_else_with_it(scribe: Scribe) -> None:
    def fail(book: Book) -> None:
        book.events.append(entry(1))
        raise ZeroDivisionError

    async def main() -> None:
        results = await asyncio.gather(
            scribe.run(lambda book: book.events.append(entry(0))),
            scribe.run(fail),
            scribe.run(lambda book: book.events.append(entry(2))),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [bool, ZeroDivisionError, bool]

    asyncio.run(main())
    assert scribe.broken == ""
    assert scribe.wait(count) == 2


def test_a_note_that_fails_by_itself_takes_no_other_with_it_and_is_noted_nowhere(tmp_path: Path) -> None:
    landed: list[int] = []
    scribe = ThreadScribe(tmp_path / FILE, group_s=60.0)
    for number in range(4):
        one = entry(number)._replace(time_ns=2**63 if number == 2 else number)  # more than a row can hold
        work = Note(one, "reader", f"r{number}" if number else "")
        assert scribe.post(work, 10, partial(landed.append, number) if number else None)
    assert scribe.post(nothing, landed=partial(landed.append, 9))
    scribe.close()
    assert scribe.broken == ""
    assert landed == [1, 3, 9]
    book, _ = open_book(tmp_path / FILE)
    assert [one.time_ns for one in page(book).entries] == [0, 1, 3]
    assert page(book).damaged == ()
    assert book.seen.taken("reader") == (frozenset({"r1", "r3"}), ())
    book.close()


def test_notes_between_other_work_keep_their_order(tmp_path: Path) -> None:
    seen: list[int] = []
    scribe = ThreadScribe(tmp_path / FILE, group_s=60.0)
    for number in range(10):
        assert scribe.post(Note(entry(number), "reader", ""))
        if number % 4 == 3:
            assert scribe.post(lambda book: seen.append(count(book)))
    scribe.close()
    assert seen == [4, 8]
    book, _ = open_book(tmp_path / FILE)
    assert [one.time_ns for one in page(book).entries] == list(range(10))
    book.close()


def test_a_disk_that_fails_ends_it_for_everyone_who_waits(scribe: Scribe) -> None:
    def fail(_: Book) -> None:
        raise DatabaseUnavailable("the disk is full")

    async def main() -> None:
        assert scribe.post(lambda book: book.events.append(entry(0)))
        results = await asyncio.gather(
            scribe.run(fail), scribe.run(lambda book: book.events.append(entry(1))), return_exceptions=True
        )
        assert [type(result) for result in results] == [Broken, Broken]

    asyncio.run(main())
    assert scribe.broken == "the disk is full"
    assert not scribe.post(count)
    with pytest.raises(Broken, match="the disk is full"):
        scribe.wait(count)


class Disk:
    """Says how much room there is; `asked` as often as somebody wants to know."""

    def __init__(self, *free: int) -> None:
        self.free, self.asked = list(free), 0
        self.enough = threading.Event()

    def __call__(self, folder: Path) -> SimpleNamespace:
        self.asked += 1
        free = self.free.pop(0) if self.free else scribe_module.ROOM_BYTES
        if free >= scribe_module.ROOM_BYTES:
            self.enough.wait(20)
        return SimpleNamespace(free=free)


def fill(book: Book) -> None:
    """The file may not grow from here on, as if the disk were full."""
    book.run(f"PRAGMA max_page_count = {book.number('PRAGMA page_count')}")
    for number in range(10_000):
        book.events.append(entry(number))


def test_a_journal_whose_disk_was_full_goes_on_and_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(0, scribe_module.ROOM_BYTES - 1)
    monkeypatch.setattr(scribe_module, "AGAIN_S", 0.001)
    monkeypatch.setattr(scribe_module.shutil, "disk_usage", disk)
    scribe = ThreadScribe(tmp_path / FILE)
    assert scribe.wait(lambda book: book.events.append(entry(0)))
    with pytest.raises(Broken, match="database or disk is full"):
        scribe.wait(fill)
    assert not scribe.post(lambda book: book.events.append(entry(1)))
    assert not scribe.post(lambda book: book.events.append(entry(2)), 10)
    assert not scribe.post(lambda book: book.events.append(entry(3)), 10, lambda: None), "it comes again"
    assert scribe.gap is None
    disk.enough.set()
    until(lambda: not scribe.broken)
    assert scribe.gap == Gap(2, "the journal can't be used now: database or disk is full")
    assert disk.asked == 3
    assert scribe._again_s > 0.001
    assert scribe.wait(lambda book: book.events.append(entry(4)))
    assert scribe.wait(count) == 2
    assert scribe._again_s == 0.001, "a disk that is full another time is looked at as soon"
    scribe.close()
    assert scribe.broken == ""


def test_a_journal_that_waits_for_room_ends_at_once_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scribe_module, "AGAIN_S", 1_000.0)
    scribe = ThreadScribe(tmp_path / FILE)
    with pytest.raises(Broken):
        scribe.wait(fill)
    scribe.close()
    assert not scribe._thread.is_alive()
    assert "disk is full" in scribe.broken
    assert scribe.gap is None


def test_after_the_close_nothing_is_taken(scribe: Scribe) -> None:
    scribe.close()
    assert not scribe.post(count)
    with pytest.raises(Broken, match="the journal is closed"):
        asyncio.run(scribe.run(count))
    assert scribe.broken == ""


def test_what_is_said_to_have_landed_is_on_the_disk(tmp_path: Path) -> None:
    scribe, landed = ThreadScribe(tmp_path / FILE), threading.Event()
    looked: list[int] = []

    def look() -> None:
        other = Book(tmp_path / FILE)
        looked.append(other.events.count())
        other.close()
        landed.set()

    assert scribe.post(lambda book: book.events.append(entry(0)), 10, look)
    assert landed.wait(20)
    assert looked == [1]
    scribe.close()


def test_a_group_is_one_transaction(tmp_path: Path) -> None:
    commits: list[str] = []
    scribe = ThreadScribe(tmp_path / FILE, group_s=60.0)

    def watch(book: Book) -> None:
        book._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)

    for number in range(20):
        scribe.post(watch if number == 0 else lambda book, number=number: book.events.append(entry(number)))
    scribe.close()
    assert len(commits) == 1
    book, _ = open_book(tmp_path / FILE)
    assert book.events.count() == 19
    book.close()


def test_the_loop_goes_on_while_the_disk_is_at_work(tmp_path: Path) -> None:
    scribe, release = ThreadScribe(tmp_path / FILE), threading.Event()

    async def main() -> None:
        waiting = asyncio.ensure_future(scribe.run(lambda book: release.wait(20)))
        for number in range(1_000):
            assert scribe.post(lambda book, number=number: book.events.append(entry(number)))
            await asyncio.sleep(0)
        assert not waiting.done()
        release.set()
        assert await waiting

    asyncio.run(main())
    scribe.close()


def test_a_disk_that_never_answers_is_given_up_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scribe_module, "CLOSE_S", 0.05)
    scribe, release = ThreadScribe(tmp_path / FILE), threading.Event()
    scribe.post(lambda book: release.wait(20))
    scribe.close()
    assert scribe.broken == "the disk did not take what was left within 0.05 s"
    release.set()
    scribe._thread.join(20)
    assert not scribe._thread.is_alive()


def test_a_fault_of_ours_in_the_thread_is_no_silence(tmp_path: Path) -> None:
    scribe, told = ThreadScribe(tmp_path / FILE), []
    before, threading.excepthook = threading.excepthook, lambda about: told.append(about.exc_type)
    try:
        scribe.post(lambda book: 1 / 0)
        scribe._thread.join(20)
    finally:
        threading.excepthook = before
    assert told == [ZeroDivisionError]
    assert scribe.broken == "ZeroDivisionError: division by zero"
