"""The catalogue's file."""

from pathlib import Path
from typing import TypeAlias

from esper import database
from esper.database import Database, DatabaseDamaged, Layout
from esper.urza import schema
from esper.urza.errors import Unavailable

FILE = "catalogue.sqlite"
BUSY_S = 10.0
"""Longest wait for another process's transaction."""
FILE_BYTES_MAX = 64 << 20
"""Of a catalogue; one with a hundred thousand designs has fewer."""
VALUE_BYTES_MAX = 1 << 20
"""Of anything that is read from the file or written to it."""
SUFFIXES = database.SUFFIXES
DAMAGED_KEPT = 3
"""Damaged catalogues that are kept for whoever wants to look."""
Value: TypeAlias = database.Value
Row: TypeAlias = database.Row


class LedgerDamaged(DatabaseDamaged):
    """The catalogue's file is not sound, or not ours; the text says what is wrong with it."""


class Ledger(Database):
    """Asks and changes the catalogue; raises `LedgerDamaged` and `Unavailable`."""

    unavailable = full = Unavailable
    damaged = LedgerDamaged

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            Layout(
                name="the catalogue",
                version=schema.VERSION,
                statements=schema.TABLES,
                check="quick_check",
                busy_s=BUSY_S,
                file_bytes_max=FILE_BYTES_MAX,
                value_bytes_max=VALUE_BYTES_MAX,
            ),
        )


def set_aside(path: Path) -> Path:
    """Move a damaged catalogue, with what belongs to it, out of the way; its new name."""
    return database.set_aside(path, DAMAGED_KEPT)
