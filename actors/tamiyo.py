"""Tamiyo acts: answers what shall be done at a boundary, and what should be measured before the next."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from actors.runtime import Actor, handles
from actors.runtime.clock import Clock
from contracts.control import Evaluate, Foresee, Ready, Survey
from contracts.growth import Candidate, ProbePlan
from contracts.messages import AdaptationCommand
from contracts.request import Request
from esper.tamiyo.controller import Controller, ControllerMemory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RememberPolicy(Request[ControllerMemory]):
    """What does the controller go on from?"""


@dataclass(frozen=True, slots=True)
class RecallPolicy(Request[bool]):
    """Go back to this; True once it is done."""

    memory: ControllerMemory


class Tamiyo(Actor[Evaluate | Survey | Foresee | Ready | RememberPolicy | RecallPolicy]):
    """The shell around the controller, which outlives a restart of the shell.

    Not critical: without it the run goes on and every boundary does nothing. A policy of somebody
    else's is asked in a thread, where it may take its time: nobody waits beyond his own deadline.
    """

    critical = False
    mailbox_size = 64

    def __init__(self, controller: Controller, clock: Clock, *, in_thread: bool) -> None:
        self._controller = controller
        self._clock = clock
        self._in_thread = in_thread

    @handles
    async def on_evaluate(self, message: Evaluate) -> AdaptationCommand:
        now_ns = self._clock.wall_ns()
        return await self._think(lambda: self._controller.decide(message.state, message.view, now_ns))

    @handles
    async def on_survey(self, message: Survey) -> ProbePlan | None:
        return await self._think(lambda: self._controller.survey(message.state, message.view))

    @handles
    async def on_foresee(self, message: Foresee) -> tuple[Candidate, ...]:
        return await self._think(lambda: self._controller.foresee(message.view))

    @handles
    async def on_ready(self, _: Ready) -> bool:
        return True

    @handles
    async def on_remember_policy(self, _: RememberPolicy) -> ControllerMemory:
        return await self._think(self._controller.remember)

    @handles
    async def on_recall_policy(self, message: RecallPolicy) -> bool:
        await self._think(lambda: self._controller.recall(message.memory))
        return True

    async def _think(self, work: Callable[[], T]) -> T:
        return await self.context.threads.run(work) if self._in_thread else work()
