"""The way back to an earlier moment: which one is tried, which next if that fails, and who goes back when.

moments in memory, the newest first ─▶ the newest sound one on disk ─▶ none: the run halts

Everyone returns to the moment, Tamiyo first, then Kasmina, then the trainer, then those who only listen.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from actors.keeping import Keeper
from actors.minds import Remembered, recall, remember
from actors.preparing import Preparations
from actors.runtime import ActorError, Threads
from actors.turn import take_up
from actors.workplace import Submit, Workplace
from contracts.report import RollbackFacts
from esper.checkpoint.errors import CheckpointError
from esper.moment import Moment
from esper.tolaria.record import DamagedRecord


@dataclass
class WayBack:
    """One rollback under way."""

    reason: str
    epoch: int
    """In which it was ordered; of one that broke, that epoch."""
    behind_break: bool
    """The data go on behind the batch that broke."""
    began_s: float
    moments: deque[Moment]
    """In memory, in the order in which they are tried."""
    moment: Moment | None = None
    """The one that is being gone back to."""
    remembered: Remembered | None = None
    """What everyone on the loop remembers, once they have gone back."""
    failures: list[str] = field(default_factory=list)
    _disk_tried: bool = False

    async def next(self, keeper: Keeper, threads: Threads) -> Moment | None:
        """The next one to try; None if there is none left."""
        self.moment = self.moments.popleft() if self.moments else None
        if self.moment is None and not self._disk_tried:
            self._disk_tried = True
            try:
                self.moment, passed_over = await threads.run(keeper.read)
                self.failures.extend(passed_over)
            except (DamagedRecord, CheckpointError) as error:
                self.failures.append(str(error))
            except Exception as error:  # noqa: BLE001 - a blueprint of somebody else's is built anew for it
                self.failures.append(f"{type(error).__name__}: {error}")
        return self.moment

    def failed(self, error: BaseException) -> None:
        """The moment can't be gone back to."""
        assert self.moment is not None
        self.failures.append(f"epoch {self.moment.epoch}: {error}")

    def facts(self, now_s: float) -> RollbackFacts:
        """What the report says of it once it is done."""
        assert self.moment is not None
        took_ms = (now_s - self.began_s) * 1e3
        kind: Literal["fast", "full"] = "full" if self._disk_tried else "fast"
        return RollbackFacts(self.epoch, self.moment.epoch, kind, self.reason, took_ms)


class Rollbacks:
    """One run's rollbacks, one at a time."""

    def __init__(self, at: Workplace, preparations: Preparations, threads: Threads, submit: Submit) -> None:
        self._at = at
        self._preparations = preparations
        self._threads = threads
        self._submit = submit
        self._way: WayBack | None = None
        """The rollback that is under way."""
        self._wanted = ""

    @property
    def under_way(self) -> bool:
        """The run is going back, and has not arrived."""
        return self._way is not None

    def want(self, reason: str) -> None:
        """Go back at the end of this epoch."""
        self._wanted = reason

    def due(self, epoch: int) -> str:
        """Why the run goes back now, at the end of `epoch`; empty if nobody wants it, or nothing is kept
        before that."""
        wanted, self._wanted = self._wanted, ""
        if not wanted:
            return ""
        self._at.keeper.trim()
        moments = self._at.keeper.moments
        if not moments or moments[0].epoch >= epoch:
            told = "no boundary before this one is kept that one could go back to (checkpoint.boundaries)"
            self._at.witness.alert("rollback_refused", told)
            return ""
        return wanted

    async def begin(self, reason: str, epoch: int, pass_over: int, *, behind_break: bool) -> str:
        """Return to an earlier moment than the newest `pass_over`; why not, if there is none that one can
        return to."""
        began = self._at.tools.now()
        moments = newest_first(self._at.keeper.moments, pass_over)
        self._way = WayBack(reason, epoch, behind_break, began, moments)
        return await self._next(self._way)

    async def next(self, error: BaseException) -> str:
        """The trainer could not go back there: try the next moment; why not, if there is none."""
        assert self._way is not None
        self._way.failed(error)
        return await self._next(self._way)

    def take_up(self, moment: Moment, *, behind_break: bool) -> None:
        """Have the trainer go on from this moment."""
        at = self._at
        self._submit(lambda: take_up(at.training, moment.snapshot, behind_break, at.tools))

    def arrive(self) -> None:
        """The trainer has gone back, if that was under way: now those who only listen."""
        way, self._way = self._way, None
        if way is None:
            return
        assert way.moment is not None
        memories = way.moment.memories
        self._preparations.go_back(way.moment, way.remembered)
        self._at.keeper.go_back(way.moment.epoch)
        self._at.alarms.go_back(memories.isolations)
        self._at.witness.rolled_back(memories.witness, way.facts(self._at.tools.now()))
        for told in way.failures:
            self._at.witness.alert("rollback_passed_over", told)

    async def _next(self, way: WayBack) -> str:
        at = self._at
        while (moment := await way.next(at.keeper, self._threads)) is not None:
            try:
                passed_over = await recall(at.minds, moment.memories)
                way.remembered = await remember(at.minds)
            except ActorError as error:
                way.failed(error)
                continue
            for told in passed_over:
                at.witness.alert("rollback_incomplete", told)
            self.take_up(moment, behind_break=way.behind_break)
            return ""
        self._way = None
        tried = "; ".join(way.failures) or "no boundary has been kept that one could go back to"
        return f"{way.reason}; there is no way back: {tried}"


def newest_first(moments: Iterable[Moment], pass_over: int) -> deque[Moment]:
    """The moments in memory without the newest `pass_over` of them; at least the oldest is left."""
    ordered = list(moments)
    keep = max(1, len(ordered) - pass_over)
    return deque(reversed(ordered[:keep]))
