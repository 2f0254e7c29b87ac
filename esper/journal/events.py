"""The event log: what was published, each event once, in the order in which it was heard."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from esper.database import Database, Row, Value
from esper.journal.seal import plain, seal

BATCH = 500
"""Rows that are read at a time."""
AT_ONCE_MAX = 32
"""Rows that are written with one statement: each number of them has one of its own."""
_TABLE = "events"
_FIELDS = "ordinal, topic, event_id, time_ns, message, seal"


class Entry(NamedTuple):
    """One event."""

    topic: str
    event_id: str
    time_ns: int
    message: bytes
    """JSON."""


class Page(NamedTuple):
    """Some entries of the log, in order."""

    entries: tuple[Entry, ...]
    damaged: tuple[str, ...]
    """Names what is missing among them, with the reason."""
    last: int
    """Ordinal of the last row that was looked at."""
    ended: bool


class Asks(Protocol):
    """Gives rows of the file; a writer's connection or a reader's."""

    def rows(self, statement: str, *values: Value) -> list[Row]: ...


class EventLog:
    """Reads and writes rows of `events`. Nothing here begins a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entry: Entry) -> bool:
        """Add it at the end; false, and nothing is changed, if the event is there already.

        A resumed run tells again what it told before it was killed: the first telling stays.
        """
        return self._insert(self._next(), [entry]) == 1

    def extend(self, entries: Sequence[Entry]) -> None:
        """Append each, with fewer statements."""
        for first in range(0, len(entries), AT_ONCE_MAX):
            self._extend(entries[first : first + AT_ONCE_MAX])

    def _extend(self, entries: Sequence[Entry]) -> None:
        ordinal = self._next()
        if self._insert(ordinal, entries) in (0, len(entries)):
            return
        # Those that were there already have left gaps, and the seals are over the ordinals.
        self._database.run("DELETE FROM events WHERE ordinal >= ?", ordinal)
        for entry in entries:
            self.append(entry)

    def _next(self) -> int:
        return self._database.number("SELECT max(ordinal) FROM events") + 1

    def _insert(self, ordinal: int, entries: Sequence[Entry]) -> int:
        """Add those that are not there yet, each under its own number from `ordinal` on; how many."""
        values: list[Value] = []
        for number, entry in enumerate(entries, ordinal):
            values += (number, *entry, seal(_TABLE, number, *entry))
        places = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(entries))
        return self._database.run(
            f"INSERT INTO events ({_FIELDS}) VALUES {places} ON CONFLICT (topic, event_id) DO NOTHING",
            *values,
        )

    def count(self) -> int:
        return self._database.number("SELECT count(*) FROM events")


def page(asks: Asks, after: int = 0, rows_max: int = BATCH) -> Page:
    """The events behind ordinal `after`; rows whose seal is broken and gaps are named, and passed over."""
    statement = f"SELECT {_FIELDS} FROM events WHERE ordinal > ? ORDER BY ordinal LIMIT ?"
    rows = asks.rows(statement, after, rows_max)
    entries: list[Entry] = []
    damaged: list[str] = []
    for row in rows:
        ordinal = int(row[0])
        if ordinal != after + 1:
            damaged.append(f"events {after + 1} to {ordinal - 1} are missing")
        after = ordinal
        entry = _entry(row)
        if entry is None:
            damaged.append(f"event {ordinal} is damaged")
        else:
            entries.append(entry)
    return Page(tuple(entries), tuple(damaged), after, len(rows) < rows_max)


def _entry(row: Row) -> Entry | None:
    """None if the row is not what was written."""
    *values, sealed = row
    if seal(_TABLE, *values) != sealed:
        return None
    _, topic, event_id, time_ns, message = values
    return Entry(plain(topic).decode(), plain(event_id).decode(), int(time_ns), plain(message))
