"""Tolaria acts: one turn of training after another, and between two of them the boundary.

    Turned ─▶ keep the moment ─▶ ask Tamiyo (deadline) ─▶ ask Kasmina (what is left of the budget)
              ─▶ submit the next turn; then, beside training: commit, report, publish, survey, remember

A turn that breaks is answered with a way back: everyone returns to the newest moment, Tamiyo first, then
Kasmina, then the trainer, then those who only listen; and decides there again. Where there is no way back
the run halts.
"""

import logging
from collections.abc import Callable
from contextlib import suppress

from actors.boundary import OpenBoundary, tell_of_turn
from actors.ending import Ending
from actors.errands import Errands
from actors.keeping import Wrote
from actors.lane import JobFailed
from actors.preparing import Preparations
from actors.returning import Rollbacks
from actors.runtime import Actor, ActorError, handles
from actors.turn import Opened, Turned, set_out, turn
from actors.workplace import Available, Begin, Finalised, GoBack, Halt, KeepNow, Prepared, Workplace
from esper.tolaria.results import Assembled

log = logging.getLogger(__name__)

HAND_OVER_S = 0.001
"""The loop really rests this long once a turn is submitted; while it works, the lane can't begin."""


class Tolaria(
    Actor[
        Begin
        | Opened
        | Turned
        | Finalised
        | JobFailed
        | Halt
        | GoBack
        | KeepNow
        | Prepared
        | Available
        | Wrote
    ]
):
    """The one actor that drives the run; module and optimizer change only in its lane."""

    mailbox_size = 32
    asks = ("tamiyo", "kasmina", "reports")

    def __init__(self, at: Workplace) -> None:
        self._at = at
        self._errands = Errands()
        self._last: Assembled | None = None
        """What the newest turn has brought."""

    async def on_start(self) -> None:
        at, context, errands = self._at, self.context, self._errands
        at.keeper.deliver = self._post
        self._boundary = OpenBoundary(at, errands, context.me)
        self._preparations = Preparations(at, errands, context.me)
        self._rollbacks = Rollbacks(at, self._preparations, context.threads, self._submit)
        self._ending = Ending(at, errands, context.clock, self._submit)

    async def on_stop(self) -> None:
        await self._errands.end()

    @handles
    async def on_begin(self, _: Begin) -> None:
        at, start = self._at, self._at.start
        await self._preparations.begin(start)
        if start is None:
            self._submit(lambda: set_out(at.training, at.tools))
        else:
            at.keeper.begin(start, at.before())
            self._rollbacks.take_up(start, behind_break=False)

    @handles
    async def on_opened(self, opened: Opened) -> None:
        """The first epoch is to be trained, perhaps once more."""
        self._rollbacks.arrive()
        at = self._at
        self._last = None
        self._preparations.opened()
        self._preparations.keep(0, opened.kept)
        self._submit(lambda: turn(at.training, None, None, at.tools))

    @handles
    async def on_halt(self, message: Halt) -> None:
        self._ending.order(message)

    @handles
    async def on_go_back(self, message: GoBack) -> None:
        self._rollbacks.want(message.reason)

    @handles
    async def on_keep_now(self, _: KeepNow) -> None:
        self._at.keeper.write_newest()

    @handles
    async def on_prepared(self, prepared: Prepared) -> None:
        self._preparations.take(prepared)

    @handles
    async def on_available(self, _: Available) -> None:
        self._boundary.answered()

    @handles
    async def on_wrote(self, wrote: Wrote) -> None:
        self._at.keeper.wrote(wrote)
        self._at.witness.wrote(wrote)
        self._at.alarms.wrote(wrote, self._epoch)
        self._ending.wrote()

    @handles
    async def on_turned(self, turned: Turned) -> None:
        self._rollbacks.arrive()
        self._boundary.settle()
        tell_of_turn(self._at.witness, turned)
        turned = self._boundary.as_it_stands(turned)
        self._last = turned.assembled
        self._at.witness.reached(self._epoch)
        self._preparations.keep(turned.result.epoch, turned.kept)
        if turned.finished or self._ending.halted:
            self._at.witness.last_epoch(turned.assembled)
            await self._ending.finish(self._last)
        elif wanted := self._rollbacks.due(self._epoch):
            self._at.tools.quiet(False)
            await self._go_back(wanted, pass_over=1, behind_break=False)
        else:
            await self._go_on(turned)

    @handles
    async def on_job_failed(self, failure: JobFailed) -> None:
        """A turn broke: go back, or else judge the network as it is; if that fails too, end without."""
        self._at.tools.quiet(False)
        self._boundary.cut_short()
        if self._rollbacks.under_way:
            await self._halt_unless_on_the_way(await self._rollbacks.next(failure.error))
        elif self._ending.halted:
            self._ending.close()
        else:
            await self._go_back_or_halt(failure.error)

    @handles
    async def on_finalised(self, message: Finalised) -> None:
        self._ending.judged(message)

    @property
    def _epoch(self) -> int:
        """The newest epoch that has ended."""
        return self._last.growth.epoch if self._last is not None else 0

    async def _go_on(self, turned: Turned) -> None:
        """Decide, and train on."""
        at = self._at
        boundary = await self._boundary.decide(turned)
        plan = boundary.verdict.plan if boundary.verdict is not None else None
        probe = self._preparations.take_probe()
        self._submit(lambda: turn(at.training, plan, probe, at.tools, self._boundary.begun))
        await self.context.clock.sleep(HAND_OVER_S)
        self._boundary.settle()
        await self._boundary.tell(boundary)
        self._preparations.ask(boundary, overdue=bool(self._boundary.overdue))
        at.keeper.trim()
        at.keeper.write_due()

    async def _go_back_or_halt(self, error: BaseException) -> None:
        """What a turn that broke is answered with."""
        ordered = self._at.alarms.trouble(error, self._epoch)
        if ordered is None:
            log.error("training failed", exc_info=error)
            reason = f"{type(error).__name__}: {error} (esper.log in the run's folder says where)"
            self._at.alarms.failed(reason, self._epoch)
            await self._halt(reason)
        elif ordered.rollback and not self._ending.interrupted:
            await self._go_back(ordered.reason, ordered.moments_back, behind_break=True)
        else:
            await self._halt(ordered.reason)

    async def _go_back(self, reason: str, pass_over: int, *, behind_break: bool) -> None:
        epoch = self._epoch + behind_break  # the epoch that broke has not ended
        why_not = await self._rollbacks.begin(reason, epoch, pass_over, behind_break=behind_break)
        await self._halt_unless_on_the_way(why_not)

    async def _halt_unless_on_the_way(self, why_not: str) -> None:
        """`why_not` says why there is no way back; empty if there is one."""
        if why_not:
            self._at.alarms.no_way_back(why_not, self._epoch)
            await self._halt(why_not)

    async def _halt(self, reason: str) -> None:
        self._ending.halt(reason)
        await self._ending.finish(self._last)

    def _submit(self, job: Callable[[], Turned | Opened | Finalised]) -> None:
        self._at.lane.submit(job, self._deliver)

    def _deliver(self, outcome: object) -> None:
        assert isinstance(outcome, Turned | Opened | Finalised | JobFailed)
        self._post(outcome)

    def _post(self, outcome: Turned | Opened | Finalised | JobFailed | Wrote) -> None:
        with suppress(ActorError):  # the run was broken off: nobody waits for this any more
            self.context.me.post_from_thread(outcome)
