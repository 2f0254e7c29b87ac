"""A real run's journal: the event log in the folder is what was told, and no report is left unread."""

from pathlib import Path

import msgspec
import pytest

from actors.nissa.journal import READER
from contracts import topics
from esper.journal.book import open_book
from esper.journal.reading import EVENTS
from esper.journal.schema import FILE
from esper.session import grow
from tests.esper.journal.workload import events_of
from tests.esper.test_session import SMALL, circle


@pytest.mark.real
def test_a_finished_run_has_told_everything_and_every_report_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grown = grow(circle(), sites=["1"], epochs=6, settings=SMALL)
    events, damaged = events_of(grown.folder)
    assert damaged == []
    assert [msgspec.json.decode(one) for one in (grown.folder / EVENTS).read_bytes().splitlines()] == events
    told = [str(one["event_id"]) for one in events if one["topic"] == topics.FIELD_REPORT]
    assert told == [f"{grown.folder.name}-c{number}-r" for number in range(1, 6)]  # three windows were open
    assert not [file.name for file in grown.folder.glob(f"{FILE}-*")]
    book, notes = open_book(grown.folder / FILE)
    assert notes == ()
    assert book.reports.pending(100) == ((), ())
    assert book.seen.taken(READER) == (frozenset(told), ())
    assert book.number("SELECT count(*) FROM reports WHERE acknowledged_ns > 0") == len(told)
    book.close()
    assert not {alert.name for alert in grown.report.alerts if alert.name.startswith(("journal", "field"))}
