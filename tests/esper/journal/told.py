"""Whether a run that lives elsewhere has told anything yet."""

from pathlib import Path

from esper.database import DatabaseDamaged, DatabaseUnavailable
from esper.journal.reading import Told, lines


def has_told(runs: Path) -> bool:
    """Whether a run under `runs` has an event in its journal."""
    return any(_has_told(folder) for folder in runs.glob("*"))


def _has_told(folder: Path) -> bool:
    try:
        return next(lines(folder, Told()), None) is not None
    except (DatabaseUnavailable, DatabaseDamaged):
        return False  # not yet
