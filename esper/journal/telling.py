"""`python -m esper.run events`: prints a run's event log, or leaves it in the run's folder."""

import sys
from contextlib import suppress
from pathlib import Path

from esper.database import DatabaseDamaged, DatabaseUnavailable
from esper.journal.reading import Told, leave, lines
from esper.journal.schema import EVENTS
from esper.options import refuse

DONE, DAMAGED = 0, 1


def tell_events(folder: Path, *, write: bool) -> int:
    """The command's exit code."""
    try:
        return _damaged(leave(folder) if write else _printed(folder))
    except (DatabaseDamaged, DatabaseUnavailable) as error:
        return refuse([f"{folder}: {error}"])
    except BrokenPipeError:  # whoever read it has seen enough
        with suppress(OSError):
            sys.stdout.close()
        return DONE
    except OSError as error:
        return refuse([f"{folder / EVENTS}: {error.strerror or error}"])


def _printed(folder: Path) -> tuple[str, ...]:
    told = Told()
    for line in lines(folder, told):
        sys.stdout.write(line.decode())
    sys.stdout.flush()
    return tuple(told.damaged)


def _damaged(names: tuple[str, ...]) -> int:
    for name in names:
        print(f"esper: {name}", file=sys.stderr)
    return DAMAGED if names else DONE
