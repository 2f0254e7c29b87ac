"""Tamiyo acts: decides at boundaries, and publishes a field report when a window closes."""

from collections.abc import Callable
from typing import TypeVar

from actors.oona.bus import Bus
from actors.oona.errors import RefusedError
from actors.runtime import Actor, handles
from actors.runtime.clock import Clock
from contracts import topics
from contracts.control import CloseWindows, Evaluate, Judged, Survey
from contracts.growth import ProbePlan
from contracts.messages import AdaptationCommand, FieldReport
from esper.tamiyo.controller import Controller

T = TypeVar("T")


class Tamiyo(Actor[Evaluate | Survey | Judged | CloseWindows]):
    """The shell around the controller, which outlives a restart of the shell.

    Not critical: without it the run goes on and every boundary does nothing.
    """

    critical = False
    mailbox_size = 64

    def __init__(self, controller: Controller, clock: Clock, bus: Bus) -> None:
        self._controller = controller
        self._clock = clock
        self._bus = bus
        self.reports_refused = 0

    @handles
    async def on_evaluate(self, message: Evaluate) -> AdaptationCommand:
        now_ns = self._clock.wall_ns()
        decision = await self._think(lambda: self._controller.decide(message.state, message.view, now_ns))
        self._publish(decision.reports)
        return decision.command

    @handles
    async def on_survey(self, message: Survey) -> ProbePlan | None:
        return await self._think(lambda: self._controller.survey(message.state, message.view))

    @handles
    async def on_judged(self, message: Judged) -> None:
        self._controller.judge(message.command_id, message.applied, message.reason)

    @handles
    async def on_close_windows(self, message: CloseWindows) -> tuple[FieldReport, ...]:
        reports = self._controller.close(message.state, message.view, self._clock.wall_ns())
        self._publish(reports)
        return reports

    async def _think(self, work: Callable[[], T]) -> T:
        """Where a policy may take its time, in a thread: nobody waits for it beyond his own deadline."""
        if self._controller.policy.quick:
            return work()
        return await self.context.threads.run(work)

    def _publish(self, reports: tuple[FieldReport, ...]) -> None:
        for report in reports:
            try:
                self._bus.publish_nowait(topics.FIELD_REPORT, report, event_id=report.report_id)
            except RefusedError:
                self.reports_refused += 1
