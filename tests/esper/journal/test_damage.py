"""Damaged files: what was acknowledged is there bit for bit, or its loss is named; nothing wrong is read."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from esper.journal.book import Book, open_book
from esper.journal.events import Entry, page
from esper.journal.reports import Kept
from esper.journal.schema import EVENTS as EXPORT
from esper.journal.schema import FILE
from tests.esper.journal.samples import NOW_NS, entry, report
from tests.esper.urza.world import in_memory

REPORTS, GROUP = 12, 5
EVENTS = REPORTS * GROUP
WAL = f"{FILE}-wal"


@pytest.fixture
def disk() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def written() -> list[Entry]:
    return [entry(number, 40 + 7 * (number % 9)) for number in range(EVENTS)]


def fill(book: Book) -> None:
    """Events in groups, each with a report, of which every third is read."""
    events = written()
    for number in range(REPORTS):
        with book.transaction():
            assert all(map(book.events.append, events[number * GROUP : (number + 1) * GROUP]))
            assert book.reports.write(report(number), NOW_NS) is Kept.NEW
            if number % 3 == 0:
                assert book.reports.acknowledge([f"run-r{number}"], NOW_NS) == 1
                assert book.seen.take("nissa", f"run-r{number}")


@pytest.fixture
def closed(disk: Path) -> Path:
    """A journal that was closed: everything is in the file."""
    folder = disk / "closed"
    folder.mkdir()
    book, _ = open_book(folder / FILE)
    fill(book)
    book.finish()
    assert [file.name for file in folder.iterdir()] == [FILE]
    return folder


@pytest.fixture
def left(disk: Path) -> Path:
    """A journal of a process that was killed: a part of it is in the write-ahead log."""
    open_one, folder = disk / "open", disk / "left"
    open_one.mkdir()
    book, _ = open_book(open_one / FILE)
    fill(book)
    shutil.copytree(open_one, folder, ignore=shutil.ignore_patterns("*-shm"))
    book.close()
    assert (folder / WAL).stat().st_size > 50_000
    return folder


class Read(NamedTuple):
    """What a journal gives, and what it says is amiss."""

    events: list[Entry]
    waiting: list[str]
    taken: frozenset[str]
    named: tuple[str, ...]


def read(folder: Path) -> Read:
    """Everything, through the real doors; every report that is given is one that was written."""
    book, notes = open_book(folder / FILE)
    some = page(book, 0, 10 * EVENTS)
    pending = book.reports.pending(10 * REPORTS)
    assert {_bytes(one) for one in pending.reports} <= {_bytes(report(number)) for number in range(REPORTS)}
    taken, unsound = book.seen.taken("nissa")
    book.close()
    waiting = [one.report_id for one in pending.reports]
    return Read(list(some.entries), waiting, taken, (*notes, *some.damaged, *pending.damaged, *unsound))


def _bytes(one: object) -> str:
    return repr(one)  # NaN is not equal to itself


WHOLE = Read(
    written(),
    [f"run-r{number}" for number in range(REPORTS) if number % 3],
    frozenset(f"run-r{number}" for number in range(0, REPORTS, 3)),
    (),
)


def judge(folder: Path, spoil: Callable[[Path], None], disk: Path) -> str:
    """Spoil a copy of the journal and read it: it is "whole" or "named"; AssertionError if neither."""
    copy = Path(shutil.copytree(folder, disk / "spoilt"))
    try:
        spoil(copy)
        found = read(copy)
        assert set(found.events) <= set(WHOLE.events)
        assert set(found.waiting) <= set(WHOLE.waiting) or found.named
        if found.named:
            return "named"
        assert found == WHOLE
        return "whole"
    finally:
        shutil.rmtree(copy)


def flip(file: str, bit: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = bytearray((folder / file).read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        (folder / file).write_bytes(content)

    return spoil


def cut(file: str, size: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with (folder / file).open("r+b") as stream:
            stream.truncate(size)

    return spoil


def overwrite(file: str, at: int, content: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with (folder / file).open("r+b") as stream:
            stream.seek(at)
            stream.write(content)

    return spoil


def damages(folder: Path, file: str, count: int, seed: int) -> Iterator[Callable[[Path], None]]:
    """Flipped bits for the most part, with zeroed, garbled and missing sectors among them."""
    chance, size = random.Random(f"{file}/{seed}"), (folder / file).stat().st_size
    for _ in range(count):
        kind, sector = chance.random(), chance.randrange(size // 512) * 512
        if kind < 0.8:
            yield flip(file, chance.randrange(size * 8))
        elif kind < 0.9:
            yield overwrite(file, sector, chance.choice((bytes(512), chance.randbytes(512))))
        else:
            yield cut(file, chance.randrange(size)) if file == FILE else overwrite(file, sector, bytes(4096))


def judged(folder: Path, file: str, count: int, disk: Path, seed: int = 0) -> Counter[str]:
    return Counter(judge(folder, spoil, disk) for spoil in damages(folder, file, count, seed))


def test_a_sound_journal_gives_everything_and_names_nothing(closed: Path, left: Path, disk: Path) -> None:
    assert judge(closed, lambda folder: None, disk) == "whole"
    assert judge(left, lambda folder: None, disk) == "whole"


def test_nothing_wrong_is_read_from_a_damaged_file(closed: Path, disk: Path) -> None:
    verdicts = judged(closed, FILE, 150, disk)
    assert verdicts["named"] > 60
    print(f"damaged files: {dict(verdicts)}")


def test_nothing_is_missing_unsaid_from_a_damaged_log(left: Path, disk: Path) -> None:
    verdicts = judged(left, WAL, 100, disk)
    assert verdicts["named"] > 60
    print(f"damaged logs: {dict(verdicts)}")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("file", "count"), [(FILE, 8_000), (WAL, 2_000)])
def test_no_damage_goes_unnoticed(file: str, count: int, closed: Path, left: Path, disk: Path) -> None:
    verdicts = judged(closed if file == FILE else left, file, count, disk, seed=1)
    assert verdicts["named"] > 0.4 * count
    print(f"{sum(verdicts.values())} damaged copies of {file}: {dict(verdicts)}")


def test_every_bit_of_the_last_frame_counts(left: Path, disk: Path) -> None:
    """The end of the log is where SQLite by itself would say nothing at all."""
    size = (left / WAL).stat().st_size
    start = size - 4096 - 24
    verdicts = Counter(judge(left, flip(WAL, 8 * start + bit), disk) for bit in range(0, 24 * 8, 5))
    assert verdicts == {"named": 39}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / FILE).write_bytes(b"This is no database. " * 300),
        lambda folder: ((folder / FILE).unlink(), (folder / FILE).mkdir()),
    ],
)
def test_what_is_no_journal_is_put_aside_under_a_name_that_is_told(
    spoil: Callable[[Path], object], closed: Path
) -> None:
    spoil(closed)
    (closed / EXPORT).write_text("made of it while it was whole\n")
    before = (closed / FILE).read_bytes() if (closed / FILE).is_file() else None
    book, notes = open_book(closed / FILE)
    with book.transaction():
        assert book.events.append(entry(0))
    book.close()
    assert len(notes) == 1
    assert f"it is now {FILE}.damaged-1, and a new one was begun" in notes[0]
    aside = closed / f"{FILE}.damaged-1"
    assert aside.read_bytes() == before if before is not None else aside.is_dir()
    assert (closed / f"{EXPORT}.damaged-1").read_text() == "made of it while it was whole\n"
    assert f"{EXPORT}.damaged-1" in notes[0]


def test_a_log_whose_end_is_torn_is_kept_as_it_was_found(left: Path) -> None:
    content = bytearray((left / WAL).read_bytes())
    content[-100] ^= 1
    (left / WAL).write_bytes(content)
    book, notes = open_book(left / FILE)
    book.close()
    assert "1 of its" in notes[0]
    assert (left / f"{WAL}.torn-1").read_bytes() == content
