"""The event log for whoever wants to read it: of a run that is over, was killed, or goes on."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from esper.database import DatabaseDamaged, DatabaseUnavailable, Row, Value
from esper.folder import write_whole
from esper.journal.events import Entry, page
from esper.journal.schema import BUSY_S, EVENTS, FILE


class Line(msgspec.Struct, frozen=True):
    """One event as it is written: `message`'s fields are those of the wire, enums as their numbers there."""

    time_ns: int
    topic: str
    event_id: str
    message: msgspec.Raw


class Reader:
    """Looks into a journal and changes nothing, also while its run writes.

    Raises:
        DatabaseDamaged: from any method: the file can't be read through.
        DatabaseUnavailable: the disk or another process is in the way.
    """

    def __init__(self, path: Path) -> None:
        with _told(path):
            self._connection = _connected(path)
            self._connection.text_factory = bytes

    def rows(self, statement: str, *values: Value) -> list[Row]:
        with _told(Path(FILE)):
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        self._connection.close()


class Told:
    """Names what a reader of the event log has to be told."""

    def __init__(self) -> None:
        self.damaged: list[str] = []


def lines(folder: Path, told: Told) -> Iterator[bytes]:
    """The event log of the run in `folder`, one JSON object a line; `told` gets what could not be read.

    A reader holds nobody up: it looks at some hundred events at a time.

    Raises:
        DatabaseDamaged: the rest of the journal can't be read.
        DatabaseUnavailable: there is none, or it can't be read now.
    """
    reader = Reader(folder / FILE)
    try:
        after, ended = 0, False
        while not ended:
            some = page(reader, after)
            after, ended = some.last, some.ended
            told.damaged.extend(some.damaged)
            yield from map(line_of, some.entries)
    finally:
        reader.close()


def line_of(entry: Entry) -> bytes:
    """As it stands in `events.jsonl`."""
    line = Line(entry.time_ns, entry.topic, entry.event_id, msgspec.Raw(entry.message))
    return msgspec.json.encode(line) + b"\n"


def leave(folder: Path) -> tuple[str, ...]:
    """Write the event log of the run in `folder` beside its journal, whole; what could not be read.

    Raises:
        DatabaseDamaged: the journal can't be read through; what was there before stays.
        DatabaseUnavailable: it can't be read now.
        OSError: the disk does not take it.
    """
    told = Told()
    write_whole(folder / EVENTS, lines(folder, told))
    return tuple(told.damaged)


def _connected(path: Path) -> sqlite3.Connection:
    """Read only. A journal without a log beside it is closed, and read without leaving anything beside it."""
    if not path.is_file():
        raise DatabaseUnavailable(f"there is no {path.name} in {path.parent}")
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=BUSY_S)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise DatabaseUnavailable(f"{path.name} can't be read now: {error}") from None
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise DatabaseDamaged(f"{path.name} is damaged: {error}") from None
