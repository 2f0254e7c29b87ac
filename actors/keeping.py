"""Keeps the moments of a run: the newest in memory, and one after the other on disk, beside training.

    boundary ─▶ keep ─▶ ring in memory        fast rollback
                   └──▶ writer's lane ─▶ disk  full rollback, resume

The writer takes one moment at a time. What comes due while it writes replaces what waits: the newest counts.
What was done before the oldest moment that one could go back to is `settled`: nothing can undo it.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from actors.lane import JobFailed, Lane
from contracts.config import CheckpointConfig
from contracts.growth import SeedRecord
from esper.checkpoint.store import CheckpointStore, Saved
from esper.moment import About, Moment, from_checkpoint, to_checkpoint
from esper.tamiyo.observation import SPAN_MAX

MB = 1 << 20
LATE_S = 1.0
"""Seconds between two checkpoints, if so many boundaries lie behind the newest that no report is settled."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """The writer is done with a moment, or has failed at it."""

    epoch: int
    saved: Saved | None
    error: BaseException | None = None


@dataclass(frozen=True)
class Desk:
    """What moments are written with."""

    store: CheckpointStore
    lane: Lane
    about: About
    build: Callable[[SeedRecord], nn.Module]
    """Makes the module of a seed that is read back."""


class Keeper:
    """Without a desk nothing goes to disk. Lives on the loop; only the writer's lane touches the store."""

    def __init__(self, config: CheckpointConfig, desk: Desk | None, now: Callable[[], float]) -> None:
        self.moments: deque[Moment] = deque()
        """The oldest first."""
        self.written = -1
        """Epoch of the newest moment on disk, whatever has become of that future; -1 is none."""
        self._config = config
        self._desk = desk if config.every_epochs else None
        self._now = now
        self._writing: Moment | None = None
        self._newest_saved = False
        """The newest moment is on disk. An older one is not held on to for that: with it go the modules
        of seeds that are gone, and all that they hold."""
        self._next: Moment | None = None
        self._newest: Moment | None = None
        self.on_disk = -1
        """Epoch of the newest moment on disk of what has happened; -1 while the disk has another future."""
        self._undone: Moment | None = None
        """Of such a future, and still being written."""
        self._last_s = now()
        self.deliver: Callable[[Wrote], None] = lambda wrote: None
        """Called from the writer's lane."""

    @property
    def writing(self) -> bool:
        """A moment is on its way to disk."""
        return self._writing is not None

    @property
    def keeps(self) -> bool:
        """Whether the trainer's half of a moment is wanted at boundaries."""
        return bool(self._config.boundaries) or self._desk is not None

    @property
    def settled(self) -> float:
        """Epoch of the oldest moment that the run may go back to, in this process or, from the disk's newest,
        in another one; -1 while that would be its beginning or an undone future, infinite if it can't.
        """
        ways = [self.moments[0].epoch] if self.moments else []
        if self._desk is not None:
            ways.append(self.on_disk)
        return min(ways, default=math.inf)

    def begin(self, moment: Moment, before: Iterable[Moment] = ()) -> None:
        """The run goes on from this moment, which is on disk; `before` are earlier ones, the oldest first."""
        self._newest, self._newest_saved = moment, True
        self.written = self.on_disk = moment.epoch
        self.moments.extend((*before, moment))

    def keep(self, moment: Moment) -> None:
        """A new moment; the run may begin with one that it knows."""
        if self.moments and self.moments[-1].epoch == moment.epoch:
            self.moments.pop()
        self._newest, self._newest_saved = moment, False
        self.moments.append(moment)

    def write_due(self) -> None:
        """Have the newest moment written if it is due; to be called when training runs again.

        It is, whatever the configuration says, `SPAN_MAX` boundaries behind the newest on disk: what waits
        until it is settled would be too much.

        To put a moment into words takes the interpreter for some milliseconds, which a boundary has not.
        """
        moment = self._newest
        if moment is not None and self._desk is not None and self._is_due(moment):
            self.write_newest()

    def _is_due(self, moment: Moment) -> bool:
        rested_s = self._now() - self._last_s
        if moment.epoch - self.on_disk >= SPAN_MAX and rested_s >= LATE_S:
            return True
        return rested_s >= self._config.every_s and moment.epoch % self._config.every_epochs == 0

    def write_newest(self) -> bool:
        """Have the newest moment written now, due or not; False if there is none, or nowhere to write it."""
        if self._desk is None or self._newest is None:
            return False
        if not self._newest_saved and self._newest is not self._writing:
            self._write(self._newest)
        return True

    def wrote(self, wrote: Wrote) -> None:
        """Take note of it, and go on with what waits."""
        moment, self._writing = self._writing, None
        if wrote.saved is not None:
            self._newest_saved = self._newest_saved or moment is self._newest
            self.written = wrote.epoch
            if moment is not self._undone:
                self.on_disk = wrote.epoch
        waiting, self._next = self._next, None
        if waiting is not None:
            self._write(waiting)

    def go_back(self, epoch: int) -> None:
        """The run stands at the end of this epoch: what came later, and this moment itself, is kept anew.

        Until that is done there is nothing to write: what lies on the disk may be of an undone future.
        """
        self.on_disk, self._undone = -1, self._writing
        self._newest = self._next = None
        while self.moments and self.moments[-1].epoch >= epoch:
            self.moments.pop()

    def read(self) -> tuple[Moment | None, tuple[str, ...]]:
        """The newest moment on disk that is sound, if there is one, read in the calling thread.

        With it come sentences on those that are damaged.

        Raises:
            CheckpointError: the disk can't be read.
            DamagedRecord: what the newest sound file says is no moment of this esper.
        """
        desk = self._desk
        if desk is None:
            return None, ()
        found = desk.store.newest()
        if found.checkpoint is None:
            return None, found.passed_over
        return from_checkpoint(found.checkpoint, desk.build)[1], found.passed_over

    def _write(self, moment: Moment) -> None:
        if self._writing is not None:
            self._next = moment
            return
        desk = self._desk
        assert desk is not None
        self._writing, self._last_s = moment, self._now()

        def deliver(outcome: object) -> None:
            if isinstance(outcome, JobFailed):
                self.deliver(Wrote(moment.epoch, None, outcome.error))
            else:
                assert isinstance(outcome, Saved)
                self.deliver(Wrote(moment.epoch, outcome))

        desk.lane.submit(lambda: desk.store.save(to_checkpoint(moment, desk.about)), deliver)

    def trim(self) -> None:
        """Let go of what is too old or too much: that takes a while, which a boundary has not."""
        keep = max(1, min(self._config.boundaries, SPAN_MAX))
        while len(self.moments) > keep or (len(self.moments) > 1 and self._held() > self._config.memory_mb):
            self.moments.popleft()

    def _held(self) -> float:
        """MB of the moments in memory."""
        return sum(moment.snapshot.nbytes for moment in self.moments) / MB
