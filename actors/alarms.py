"""What Tolaria tells of troubles: turns that break, how boundaries went, checkpoints that fail."""

import errno
from collections.abc import Callable, Iterator, Mapping

from actors.alarm import Alarm
from actors.keeping import Wrote
from contracts.config import Config
from contracts.emergency import Ordered, Trigger, Trouble
from esper.boundary import Boundary
from esper.tolaria.boundary import FOREIGN_RATES
from esper.tolaria.emergency import trouble_of
from esper.tolaria.vitals import BoundaryTimes, Isolations, foreign_rates

CHECKPOINT = "checkpoint"
"""Subject of troubles that writing a checkpoint had."""


class RunAlarms:
    """Reads troubles out of what Tolaria knows, and raises the alarm."""

    def __init__(
        self,
        alarm: Alarm,
        config: Config,
        broken: Callable[[], str] = str,
        goes_on: Callable[[], object] = bool,
    ) -> None:
        """`broken` says why the run's journal takes nothing more; empty while it does. `goes_on` is called
        when it does again."""
        self._alarm = alarm
        self._broken, self._goes_on = broken, goes_on
        budget_s = config.budgets.epoch_boundary_ms / 1e3
        self._times = BoundaryTimes(budget_s, config.emergency.slow_boundaries)
        self._isolations = Isolations(config.growth.gates.isolation_violations_max)

    @property
    def isolations(self) -> dict[str, int]:
        """How often each seed was known to have touched the host while it was isolated; for a checkpoint."""
        return dict(self._isolations.known)

    def go_back(self, isolations: Mapping[str, int]) -> None:
        """Know what was known at an earlier moment."""
        self._isolations.known = dict(isolations)

    def trouble(self, error: BaseException, epoch: int) -> Ordered | None:
        """What follows from a turn that broke; None if it is nothing that one could go back from."""
        trouble = trouble_of(error, epoch)
        return self._alarm.see(trouble) if trouble is not None else None

    def no_way_back(self, reason: str, epoch: int) -> None:
        """A rollback that was ordered could not be had: the run halts."""
        self._alarm.see(Trouble(Trigger.ROLLBACK_FAILED, reason, epoch))

    def failed(self, reason: str, epoch: int) -> None:
        """Training broke by an error that would come again: the run halts."""
        self._alarm.see(Trouble(Trigger.TRAINING_FAILED, reason, epoch))

    def boundary(self, boundary: Boundary) -> None:
        """A boundary is over: what went wrong in it, and whether it was a quiet one."""
        for trouble in self._troubles(boundary):
            if trouble is not None:
                self._alarm.see(trouble)
        self._alarm.calm(boundary.epoch)

    def wrote(self, wrote: Wrote, epoch: int) -> None:
        """A checkpoint was written, or was not."""
        if wrote.error is None:
            for trigger in (Trigger.CHECKPOINT_FAILED, Trigger.DISK_FULL):
                self._alarm.over(trigger, CHECKPOINT)
            return
        trigger = Trigger.DISK_FULL if for_want_of_space(wrote.error) else Trigger.CHECKPOINT_FAILED
        told = f"the checkpoint of epoch {wrote.epoch} could not be written: {wrote.error}"
        self._alarm.see(Trouble(trigger, told, epoch, {}, CHECKPOINT))

    def _troubles(self, boundary: Boundary) -> Iterator[Trouble | None]:
        assembled, epoch = boundary.assembled, boundary.epoch
        yield self._times.look(boundary.worked_s, epoch)
        changes = int(assembled.state.training_metrics.get(FOREIGN_RATES, 0.0))
        yield foreign_rates(changes, epoch, assembled.foreign)
        yield from self._isolations.look(assembled.figures, epoch)
        if broken := self._broken():
            yield Trouble(Trigger.JOURNAL_FAILED, f"the journal takes nothing more: {broken}", epoch)
        elif self._alarm.over(Trigger.JOURNAL_FAILED):
            self._goes_on()


def for_want_of_space(error: BaseException) -> bool:
    """Whether a write failed because the disk, or the share of it that one may have, is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
