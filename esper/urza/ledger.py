"""The catalogue's file: SQLite in WAL mode with `synchronous=FULL`, one connection, used by one thread.

What is in it was perhaps written by somebody else. A file that is not sound, or whose tables are not exactly
ours, is not used; rows are checked where they are turned into something.
"""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from esper.urza import schema
from esper.urza.errors import Unavailable

FILE = "catalogue.sqlite"
BUSY_S = 10.0
"""Longest wait for another process's transaction."""
FILE_BYTES_MAX = 64 << 20
"""Of a catalogue; one with a hundred thousand designs has fewer."""
VALUE_BYTES_MAX = 1 << 20
"""Of anything that is read from the file or written to it."""
PRAGMAS = ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL", "foreign_keys = ON")
SUFFIXES = ("", "-wal", "-shm")
"""SQLite keeps what isn't in the file yet in two more beside it."""
DAMAGED_KEPT = 3
"""Damaged catalogues that are kept for whoever wants to look."""
Value: TypeAlias = str | int
Row: TypeAlias = tuple[Value, ...]


class LedgerDamaged(Exception):
    """The catalogue's file is not sound, or not ours; the text says what is wrong with it."""


class Ledger:
    """Asks and changes the catalogue."""

    def __init__(self, path: Path) -> None:
        """Open it; a missing or empty one is laid out.

        Raises:
            LedgerDamaged: it can't be relied on.
            Unavailable: it can't be opened or written now.
        """
        for suffix in SUFFIXES:
            _check(path.with_name(path.name + suffix))
        self._path = path
        self._connection = _connected(path)
        try:
            self._prepare()
            self._inode = path.stat().st_ino
        except OSError as error:
            self._connection.close()
            raise Unavailable(f"{path} is gone again: {error.strerror}") from None
        except BaseException:
            self._connection.close()
            raise

    @property
    def replaced(self) -> bool:
        """Another process found it damaged meanwhile and put a new one in its place, or it is gone."""
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is changed inside, or nothing; no other process changes anything meanwhile.

        Raises:
            Unavailable: another holds the catalogue for too long, or the disk takes no more.
        """
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise

    def run(self, statement: str, *values: Value) -> int:
        """Carry out a statement; how many rows it changed."""
        with _told():
            return self._connection.execute(statement, values).rowcount

    def rows(self, statement: str, *values: Value) -> list[Row]:
        """What a query gives."""
        with _told():
            return self._connection.execute(statement, values).fetchall()

    def number(self, statement: str, *values: Value) -> int:
        """The one number that a query gives; 0 if it gives none."""
        found = self.rows(statement, *values)
        value = found[0][0] if found else 0
        return value if isinstance(value, int) else 0

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()

    def _prepare(self) -> None:
        try:
            for pragma in PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute("PRAGMA journal_mode = WAL")
            sound = self._connection.execute("PRAGMA quick_check(1)").fetchall()
            if sound != [("ok",)]:
                raise LedgerDamaged(f"its check says: {str(sound)[:200]}")
            if self._statements() == []:
                self._lay_out()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version != schema.VERSION or self._statements() != sorted(schema.TABLES):
                raise LedgerDamaged(
                    f"its tables (version {version}) are not those of version {schema.VERSION}"
                )
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CANTOPEN):
                raise LedgerDamaged(str(error)) from None
            raise Unavailable(f"the catalogue can't be used now: {error}") from None
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise LedgerDamaged(str(error)) from None

    def _lay_out(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for statement in schema.TABLES:
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        self._connection.execute("COMMIT")

    def _statements(self) -> list[str]:
        """All tables, indexes, views and triggers, but those that SQLite makes for itself."""
        found = self._connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        return sorted(str(sql) for (sql,) in found)


def set_aside(path: Path) -> Path:
    """Move a damaged catalogue, with what belongs to it, out of the way; its new name."""
    names = [path.with_name(f"{path.name}.damaged-{number}") for number in range(1, DAMAGED_KEPT + 1)]
    target = next((name for name in names if not name.exists() and not name.is_symlink()), names[-1])
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(target.with_name(target.name + suffix))
    return target


def _check(path: Path) -> None:
    """Refuse what SQLite would follow or wait for, and what would take long."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"{path} can't be looked at: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise LedgerDamaged(f"in the place of {path.name} is no plain file")
    if found.st_size > FILE_BYTES_MAX:
        raise LedgerDamaged(f"{path.name} has {found.st_size:,} bytes; it may have {FILE_BYTES_MAX:,}")


def _connected(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise Unavailable(f"the catalogue can't be opened: {error}") from None
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
    return connection


@contextmanager
def _told() -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable(f"the catalogue can't be used now: {error}") from None
    except sqlite3.ProgrammingError:
        raise  # used by another thread, or after it was closed: a caller's fault
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"the catalogue is damaged ({error}); it is rebuilt when it is opened again"
        ) from None
