"""What an operator has ordered of the emergency level, noted in the run's folder at once.

The run's own memory of it goes to disk with the next moment that is written: a kill before that would undo
the order. Orders are counted, so that a moment that knows of as many says more than the note.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from contracts.emergency import EmergencyState
from esper.folder import write_whole
from esper.moment import Moment

FILE = "forced.json"


def note(folder: Path, state: EmergencyState) -> None:
    """Have it on disk how the newest order has left things.

    Raises:
        OSError: the disk does not take it; what was noted before is still there.
    """
    write_whole(folder / FILE, msgspec.json.encode(state))


def forget(folder: Path) -> None:
    """The run begins anew, and nobody has ordered anything yet."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def followed(folder: Path, moment: Moment) -> Moment:
    """The moment with the orders that came after it; a note that can't be read is none."""
    was, noted = moment.memories.emergency, _noted(folder)
    if noted is None or noted.orders <= was.orders:
        return moment
    state = msgspec.structs.replace(
        was,
        floor=noted.floor,
        held=noted.held,
        orders=noted.orders,
        reason=noted.reason,
        since=noted.since,
    )
    return replace(moment, memories=msgspec.structs.replace(moment.memories, emergency=state))


def _noted(folder: Path) -> EmergencyState | None:
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode((folder / FILE).read_bytes(), type=EmergencyState)
    return None
