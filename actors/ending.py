"""How a run ends: what it was ended for, its last reports, its last moment on disk, the network judged."""

from dataclasses import replace

from actors.deciding import SURVEY_DEADLINE_S
from actors.errands import Errands
from actors.runtime import ActorError, ActorRestarting, Clock
from actors.workplace import Conclusion, Finalised, Halt, Submit, Workplace
from contracts.control import CloseWindows
from contracts.messages import FieldReport
from esper.tolaria.results import Assembled

ASK_AGAIN_S = 0.05
LAST_WRITE_S = 30.0
"""How long the end of a run waits for its last moment to be on disk."""


class Ending:
    """One run's ending, from the first reason for it to the conclusion."""

    def __init__(self, at: Workplace, errands: Errands, clock: Clock, submit: Submit) -> None:
        self._at = at
        self._errands = errands
        self._clock = clock
        self._submit = submit
        self._conclusion = Conclusion()
        self._closing = False
        """All is done but for the last moment, which is being written."""

    @property
    def halted(self) -> str:
        """Why the run can't go on; empty if it can."""
        return self._conclusion.halted

    @property
    def interrupted(self) -> str:
        """Why someone wanted the run to end; empty if nobody did."""
        return self._conclusion.interrupted

    def order(self, message: Halt) -> None:
        """The run is to end after the present step, or at once."""
        if message.emergency:
            self.halt(message.reason)
        elif not self.halted:
            self._conclusion = replace(self._conclusion, interrupted=message.reason)
        self._at.training.stop()
        if message.at_once:
            self._conclude()

    def halt(self, reason: str) -> None:
        """Training can't go on."""
        self._conclusion = replace(self._conclusion, halted=reason)

    async def finish(self, last: Assembled | None) -> None:
        """Training is over: write what a run leaves, and have the network judged. `last` is how it stands."""
        emergencies = self._at.emergencies
        self._at.keeper.trim()
        if emergencies.halted and not self.halted:
            self.halt(emergencies.reason)
        on_disk = self._at.keeper.write_newest() or self._at.keeper.on_disk >= 0
        resumable = on_disk and bool(self.halted or self.interrupted)
        if last is not None:
            reports = await self._last_reports(CloseWindows(last.state, last.growth, resumable))
            self._conclusion = replace(self._conclusion, reports=reports)
        self._submit(lambda: Finalised(self._at.training.final()))

    def judged(self, message: Finalised) -> None:
        """The last job of the lane is done."""
        self._conclusion = replace(self._conclusion, final=message.final)
        self.close()

    def close(self) -> None:
        """End once the last moment is on disk, or has not come there for too long."""
        self._closing = True
        if self._at.keeper.writing:
            self._errands.run(self._conclude_after(LAST_WRITE_S))
        else:
            self._conclude()

    def wrote(self) -> None:
        """A moment has come to the disk, or could not: it may be what the end waits for."""
        if self._closing and not self._at.keeper.writing:
            self._conclude()

    async def _last_reports(self, request: CloseWindows) -> tuple[FieldReport, ...]:
        """Of the windows that are still open; an actor that is restarting is waited for."""
        until = self._clock.monotonic() + SURVEY_DEADLINE_S
        while (left_s := until - self._clock.monotonic()) > 0:
            try:
                return await self._at.minds.reports.ask(request, deadline_s=left_s)
            except ActorRestarting:
                await self._clock.sleep(ASK_AGAIN_S)
            except ActorError:
                break
        return ()

    async def _conclude_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._conclude()

    def _conclude(self) -> None:
        if self._at.done.done():
            return
        if self.halted:  # then it ends for that, whoever wanted it to end before
            self._conclusion = replace(self._conclusion, interrupted="")
        self._at.done.set_result(self._conclusion)
