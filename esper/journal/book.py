"""The journal's file, opened for writing: what can't be relied on is put aside, and named."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from esper.database import Database, DatabaseDamaged, DatabaseUnavailable, set_aside
from esper.journal.events import EventLog
from esper.journal.reports import ReportStore, SeenReports
from esper.journal.schema import EVENTS, LAYOUT
from esper.journal.wal import WAL_BYTES_MAX, torn_end

CUT_AT_BYTES = 4 << 20
"""A write-ahead log that has grown to this is taken into the file and cut off."""
ASIDE_MAX = 1_000
"""Damaged files that are kept in one folder."""


class Book(Database):
    """Events, reports and what readers have seen. Made and used by one thread.

    Raises:
        DatabaseUnavailable: from any method: the disk takes no more, or fails. What the transaction was to
            write is not acknowledged, and the book is to be closed with `give_up`.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = path
        self._wal = None if path is None else _wal_of(path)
        self._cut_at_bytes = CUT_AT_BYTES
        self._left = _content(self._wal) if self._wal is not None else b""
        self._torn = ""
        super().__init__(path, LAYOUT)
        if path is not None:
            self._sync_folder(path.parent)
        self.events = EventLog(self)
        self.reports = ReportStore(self)
        self.seen = SeenReports(self)

    @property
    def torn(self) -> str:
        """What an earlier process had written last and could not be read; empty if nothing is amiss."""
        return self._torn

    def trim(self) -> None:
        """Take a long write-ahead log into the file, and cut it off. Waits for no reader: next time will do.

        SQLite would do so by itself, but says nothing when the disk fails it.
        """
        if self._wal is None:
            return
        try:
            size = self._wal.stat().st_size
        except OSError:
            return  # then there is nothing to be cut off
        if size >= self._cut_at_bytes:
            busy = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]
            self._cut_at_bytes = size + CUT_AT_BYTES if busy else CUT_AT_BYTES

    def finish(self) -> None:
        """Take the whole log into the file, and close it."""
        self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        self.close()

    def give_up(self) -> None:
        """Close it without writing anything more: a disk that has failed is not asked again.

        SQLite's last connection to a file would take the log into it and sync it. So another one, that may
        only read, is the last: after a failed sync the system may call a second one a success.
        """
        if self._file is None:
            self.close()
            return
        reader = sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True)
        try:
            with suppress(sqlite3.Error):
                reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            self.close()
        finally:
            reader.close()

    def _sync_folder(self, folder: Path) -> None:
        """The names of its files come to the disk; SQLite does that too, but not a word if it fails."""
        try:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            self.give_up()
            raise DatabaseUnavailable(f"{folder} can't be synced: {error.strerror}") from None

    def _recovered(self) -> None:
        self._connection.text_factory = bytes
        ((mode,),) = self._connection.execute("PRAGMA journal_mode").fetchall()
        if self._file is not None and mode != b"wal":  # SQLite falls back without a word
            raise DatabaseUnavailable("the journal can't be used now: its disk refuses a write-ahead log")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        ((busy, frames, _),) = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._torn = torn_end(self._left, max(0, frames))
        if self._torn and self._file is not None:
            aside = _free(self._file.with_name(f"{self._file.name}-wal.torn"))
            aside.write_bytes(self._left)
            self._torn = f"{self._torn}; it is kept as {aside.name}"
        self._left = b""
        if not busy:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def open_book(path: Path) -> tuple[Book, tuple[str, ...]]:
    """The journal at `path`, made if need be, and what has to be told about the one that was there.

    A damaged one is put aside as `….damaged-1`, `….damaged-2`, … and a new one begun.

    Raises:
        DatabaseUnavailable: it can't be used now, and neither can a new one.
    """
    if not os.access(path.parent, os.W_OK):
        raise DatabaseUnavailable(f"{path.parent} can't be written")
    try:
        book = Book(path)
    except DatabaseDamaged as error:
        reason = str(error)
    except OSError as error:
        raise DatabaseUnavailable(f"{path}: {error.strerror or error}") from None
    else:
        return book, _told(path, book)
    try:
        aside = set_aside(path, ASIDE_MAX)
        book = Book(path)
    except (DatabaseDamaged, OSError) as error:
        raise DatabaseUnavailable(f"{path} is damaged, and can't be made anew: {error}") from None
    told = f"{path.name} was damaged ({reason}); it is now {aside.name}, and a new one was begun"
    log = path.with_name(EVENTS)
    if log.exists():  # made of the damaged one while it was whole; the new one would write over it
        kept = log.replace(path.with_name(f"{EVENTS}.{aside.name.rpartition('.')[2]}"))
        told += f"; the log that was made of it is now {kept.name}"
    return book, (told,)


def in_memory() -> Book:
    """A book that no disk holds."""
    return Book(None)


def _told(path: Path, book: Book) -> tuple[str, ...]:
    if not book.torn:
        return ()
    return (
        f"the end of {path.name}'s log was torn when the process or the machine stopped, or was damaged "
        f"since: {book.torn}",
    )


def _wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _content(wal: Path) -> bytes:
    """What an earlier process has left in the write-ahead log; nothing if that is no file, or too long."""
    try:
        return wal.read_bytes() if wal.is_file() and wal.stat().st_size <= WAL_BYTES_MAX else b""
    except OSError:
        return b""


def _free(path: Path) -> Path:
    """`path-1`, `path-2`, …: the first that is not there, or the last."""
    names = [path.with_name(f"{path.name}-{number}") for number in range(1, ASIDE_MAX + 1)]
    return next((name for name in names if not name.exists() and not name.is_symlink()), names[-1])
