"""A SQLite file of ours: WAL mode with `synchronous=FULL`, one connection, used by one thread.

What is in it was perhaps written by somebody else, or by a disk that is failing. A file that is not sound, or
whose tables are not exactly ours, is not used; rows are checked where they are turned into something.
"""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

PRAGMAS = ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL", "foreign_keys = ON")
SUFFIXES = ("", "-wal", "-shm", "-journal")
"""SQLite keeps what isn't in the file yet in others beside it."""
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""SQLite's codes where a file could not grow."""
FAILURES = (sqlite3.DatabaseError, UnicodeDecodeError)
Value: TypeAlias = str | int | bytes
Row: TypeAlias = tuple[Value, ...]


class DatabaseDamaged(Exception):
    """The file is not sound, or not ours; the text says what is wrong with it."""


class DatabaseUnavailable(Exception):
    """The file can't be read or written now: the disk is full, fails, or another process holds it."""


class DatabaseFull(DatabaseUnavailable):
    """The disk has no room for what was to be written. No sync has failed: there may be room another time."""


@dataclass(frozen=True)
class Layout:
    """What such a file holds, and how much."""

    name: str
    """What it is called when something is wrong with it: "the catalogue"."""
    version: int
    statements: tuple[str, ...]
    """Make its tables and indexes."""
    check: str
    """The pragma that says whether the file is sound."""
    busy_s: float
    """Longest wait for another process's transaction."""
    file_bytes_max: int
    value_bytes_max: int
    """Of anything that is read from the file or written to it."""


class Database:
    """Asks and changes the file; a subclass may have errors of its own."""

    unavailable: ClassVar[type[Exception]] = DatabaseUnavailable
    full: ClassVar[type[Exception]] = DatabaseFull
    damaged: ClassVar[type[Exception]] = DatabaseDamaged

    def __init__(self, path: Path | None, layout: Layout) -> None:
        """Open it; a missing or empty one is laid out. None is one in memory.

        Raises:
            DatabaseDamaged: it can't be relied on.
            DatabaseUnavailable: it can't be opened or written now.
        """
        if path is not None:
            for suffix in SUFFIXES:
                self._look_at(path.with_name(path.name + suffix), layout.file_bytes_max)
        self._path = path
        self._layout = layout
        self._connection = self._connected()
        try:
            self._prepare()
            self._inode = path.stat().st_ino if path is not None else 0
        except OSError as error:
            self._connection.close()
            raise self.unavailable(f"{path} is gone again: {error.strerror}") from None
        except BaseException:
            self._connection.close()
            raise

    @property
    def replaced(self) -> bool:
        """Another process found it damaged meanwhile and put a new one in its place, or it is gone."""
        try:
            return self._path is not None and self._path.stat().st_ino != self._inode
        except OSError:
            return True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is changed inside, or nothing; no other process changes anything meanwhile.

        Raises:
            DatabaseUnavailable: another holds the file for too long, or the disk takes no more.
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
        try:
            return self._connection.execute(statement, values).rowcount
        except FAILURES as error:
            raise self._told(error) from None

    def rows(self, statement: str, *values: Value) -> list[Row]:
        """What a query gives."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except FAILURES as error:
            raise self._told(error) from None

    def number(self, statement: str, *values: Value) -> int:
        """The one number that a query gives; 0 if it gives none."""
        found = self.rows(statement, *values)
        value = found[0][0] if found else 0
        return value if isinstance(value, int) else 0

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()

    def _recovered(self) -> None:
        """The connection stands and nothing was changed yet: look at what an earlier process left."""

    def _prepare(self) -> None:
        try:
            for pragma in PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute("PRAGMA journal_mode = WAL").fetchall()  # to its end, where it may fail
            self._recovered()
            sound = self._connection.execute(f"PRAGMA {self._layout.check}(1)").fetchall()
            if sound not in ([("ok",)], [(b"ok",)]):
                raise self.damaged(f"its check says: {str(sound)[:200]}")
            if self._statements() == []:
                self._lay_out()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version != self._layout.version or self._statements() != sorted(self._layout.statements):
                raise self.damaged(
                    f"its tables (version {version}) are not those of version {self._layout.version}"
                )
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise self.damaged(str(error)) from None
            raise self._not_now(error) from None
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self.damaged(str(error)) from None

    def _lay_out(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for statement in self._layout.statements:
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version = {self._layout.version}")
        self._connection.execute("COMMIT")

    def _statements(self) -> list[str]:
        """All tables, indexes, views and triggers, but those that SQLite makes for itself."""
        found = self._connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        return sorted(sql.decode() if isinstance(sql, bytes) else str(sql) for (sql,) in found)

    def _look_at(self, path: Path, bytes_max: int) -> None:
        """Refuse what SQLite would follow or wait for, and what would take long."""
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.unavailable(f"{path} can't be looked at: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            raise self.damaged(f"in the place of {path.name} is no plain file")
        if found.st_size > bytes_max:
            raise self.damaged(f"{path.name} has {found.st_size:,} bytes; it may have {bytes_max:,}")

    def _connected(self) -> sqlite3.Connection:
        layout = self._layout
        try:
            where = ":memory:" if self._path is None else self._path
            connection = sqlite3.connect(where, timeout=layout.busy_s, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise self.unavailable(f"{layout.name} can't be opened: {error}") from None
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, layout.value_bytes_max)
        return connection

    def _told(self, error: Exception) -> Exception:
        """SQLite's error as ours; what is a caller's fault stays as it is: used by another thread, or after
        it was closed."""
        if isinstance(error, sqlite3.OperationalError):
            return self._not_now(error)
        if isinstance(error, sqlite3.ProgrammingError):
            return error
        return self.unavailable(
            f"{self._layout.name} is damaged ({error}); it is rebuilt when it is opened again"
        )

    def _not_now(self, error: sqlite3.OperationalError) -> Exception:
        kind = self.full if error.sqlite_errorcode in NO_ROOM else self.unavailable
        return kind(f"{self._layout.name} can't be used now: {error}")


def set_aside(path: Path, kept: int) -> Path:
    """Move a damaged file, with what belongs to it, out of the way; its new name.

    `kept` damaged ones are kept for whoever wants to look; the last of them is overwritten.
    """
    names = [path.with_name(f"{path.name}.damaged-{number}") for number in range(1, kept + 1)]
    target = next((name for name in names if not name.exists() and not name.is_symlink()), names[-1])
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(target.with_name(target.name + suffix))
    return target
