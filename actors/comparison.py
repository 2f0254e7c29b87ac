"""After the run: trains the same host ungrown in the same lane, until it is done or stopped."""

import asyncio
from contextlib import suppress

from actors.company import Company, Outcome
from actors.display import Display
from actors.lane import JobFailed, Lane
from actors.nissa.nissa import DISPLAY_EVERY_S
from actors.watchdog import Stall
from contracts.config import Config
from contracts.report import Comparison
from esper.comparison import Ungrown, compared
from esper.tolaria.results import FinalFigures
from esper.tolaria.task import Task


class Stopper:
    """What a stop signal ends: the run, and then the comparison behind it."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self.control: Ungrown | None = None
        self.reason = ""
        self.given_up = False
        """Nobody waits for the comparison any more."""

    @property
    def progress(self) -> int | None:
        """Of the comparison, as `Trainer.progress` is of the run; None before it."""
        return None if self.control is None else self.control.trainer.progress

    def stalled(self, stall: Stall) -> None:
        """Its watchdog has seen something: the run is complete, and does without a comparison that hangs."""
        if stall.what == "step" and not stall.over:
            self.reason, self.given_up = f"given up: {stall.text}", True

    def unwatched(self, reason: str) -> None:
        """A stop signal ends one that hangs."""

    def stop(self) -> None:
        self.reason = "stopped by a signal"
        if self.control is not None:
            self.control.trainer.stop()
        else:
            self._company.halt(self.reason)


async def compare(
    config: Config, task: Task | None, outcome: Outcome, stopper: Stopper, display: Display, lane: Lane
) -> Comparison | None:
    """The host of `task` at the run's training FLOPs; None without a task, or if either was cut short."""
    grown = outcome.conclusion.final
    if task is None or grown is None or stopper.reason or outcome.conclusion.halted:
        return None
    control = stopper.control = Ungrown(config, task, grown.train_flops)
    outcome.witness.live.compare(control.trainer.params, grown.train_flops)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()

    def settle(result: object) -> None:
        if not done.cancelled():
            done.set_result(result)

    def deliver(result: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the run was cut off
            loop.call_soon_threadsafe(settle, result)

    lane.submit(lambda: control.run(outcome.witness.live.compared_epoch), deliver)
    try:
        while not (await asyncio.wait([done], timeout=DISPLAY_EVERY_S))[0]:
            display.update(outcome.witness.live.view())
            if stopper.given_up:
                return None
    finally:
        control.trainer.stop()  # it has ended, or nobody waits for it any more
    final = done.result()
    if isinstance(final, JobFailed):
        display.event(f"the comparison failed: {final.error}", "warning")
        return None
    if final is None:
        return None
    assert isinstance(final, FinalFigures)
    return compared(grown, final, control.epochs)
