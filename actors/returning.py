"""The way back to an earlier moment: which one is tried, and which next if that fails.

moments in memory, the newest first ─▶ the newest sound one on disk ─▶ none: the run halts
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from actors.keeping import Keeper
from actors.minds import Remembered
from actors.runtime import Threads
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


def newest_first(moments: Iterable[Moment], pass_over: int) -> deque[Moment]:
    """The moments in memory without the newest `pass_over` of them; at least the oldest is left."""
    ordered = list(moments)
    keep = max(1, len(ordered) - pass_over)
    return deque(reversed(ordered[:keep]))
