"""Checkpoints in virtual time: a store that takes its time, may fail, and keeps moments as they are.

How a moment becomes bytes is not played here: that has tests of its own, with real networks.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

from actors import keeping
from actors.keeping import Desk
from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.store import CheckpointStore, Found, Saved
from esper.moment import About, Moment
from tests.simulation.lane import SteppedLane
from tests.simulation.storm import Kind, Storm


class SimulatedStore:
    """Saves in the writer's lane; the newest can be read from anywhere."""

    def __init__(self, storm: Storm, lane: SteppedLane) -> None:
        self.saved: list[Moment] = []
        self._storm, self._lane = storm, lane

    def save(self, moment: Moment) -> Saved:
        assert self._lane.inside, "only the writer's lane saves"
        self._lane.spend(self._storm.between("save", 0.005, 0.5))
        if self._storm.strikes(Kind.DISK, "save", 0.3):
            full = OSError(errno.ENOSPC, "No space left on device")
            raise CheckpointError("planted: the disk is full") from full
        self.saved.append(moment)
        return Saved(len(self.saved), Path(f"{len(self.saved):08}.json"), 1000)

    def newest(self) -> Found:
        if self._storm.strikes(Kind.DISK, "read", 0.3):
            raise CheckpointError("planted: the folder can't be read")
        return Found(cast(Any, self.saved[-1] if self.saved else None), ())


def simulated_desk(storm: Storm, lane: SteppedLane) -> tuple[SimulatedStore, Desk]:
    """A store, and the desk that writes to it."""
    store = SimulatedStore(storm, lane)
    return store, Desk(cast(CheckpointStore, store), lane, cast(About, None), lambda record: cast(Any, None))


@contextmanager
def moments_as_they_are() -> Iterator[None]:
    """Moments go to the store, and come back, without becoming bytes."""
    with (
        mock.patch.object(keeping, "to_checkpoint", lambda moment, about: moment),
        mock.patch.object(keeping, "from_checkpoint", lambda found, build: (None, found)),
    ):
        yield
