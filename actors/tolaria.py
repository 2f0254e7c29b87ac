"""Tolaria acts: one turn of training after another, and between two of them the boundary.

    Turned ─▶ keep the moment ─▶ ask Tamiyo (deadline) ─▶ ask Kasmina (what is left of the budget)
              ─▶ submit the next turn; then, beside training: commit, report, publish, survey, remember

A turn that breaks is answered with a way back: everyone returns to the newest moment, Tamiyo first, then
Kasmina, then the trainer, then those who only listen; and decides there again. Where there is no way back
the run halts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from actors.deciding import (
    OVERDUE_S,
    STILL_BUSY,
    SURVEY_DEADLINE_S,
    Decision,
    adapt,
    ask_survey,
    decide,
    do_nothing,
    surveyed,
)
from actors.kasmina import Commit
from actors.keeping import Wrote
from actors.lane import JobFailed
from actors.minds import Answers, ask_memories, recall, remember, remembered
from actors.oona.priority import Priority
from actors.oona.telling import tell
from actors.returning import WayBack, newest_first
from actors.runtime import Actor, ActorError, ActorRestarting, handles
from actors.turn import Opened, Turned, set_out, take_up, turn
from actors.workplace import (
    Available,
    Begin,
    Conclusion,
    Finalised,
    GoBack,
    Halt,
    KeepNow,
    Prepared,
    Workplace,
)
from contracts import topics
from contracts.control import CloseWindows, Decided, Look, Ready
from contracts.growth import ProbePlan
from contracts.messages import FieldReport
from esper.boundary import Boundary
from esper.moment import Memories, Moment
from esper.tolaria.results import Assembled
from esper.tolaria.snapshot import Snapshot

log = logging.getLogger(__name__)

ASK_AGAIN_S = 0.05
LAST_WRITE_S = 30.0
"""How long the end of a run waits for its last moment to be on disk."""
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
        self._deciding: Boundary | None = None
        self._decide_from = 0.0
        self._first = self._prepared = Prepared(0, None, None)
        """The first is what everyone remembered before the first epoch."""
        self._probe: ProbePlan | None = None
        self._last: Assembled | None = None
        self._conclusion = Conclusion()
        self._overdue = ""
        """What the controller still has not answered; empty if nothing."""
        self._way: WayBack | None = None
        """The rollback that is under way."""
        self._memory_looks = 0
        """Those that a boundary knew of: what it takes out because of one has not shown before the next."""
        self._life = 0
        """Rollbacks so far."""
        self._came_back = False
        self._closing = False
        """All is done but for the last moment, which is being written."""
        self._wanted = ""
        """Why the run is to go back at the end of this epoch; empty if it is not."""
        self._errands: dict[asyncio.Task[None], None] = {}

    async def on_start(self) -> None:
        self._at.keeper.deliver = self._post

    async def on_stop(self) -> None:
        for errand in self._errands:
            errand.cancel()

    @handles
    async def on_begin(self, _: Begin) -> None:
        at, start = self._at, self._at.start
        if start is None or not start.epoch:
            self._first = Prepared(0, None, await remember(at.minds))
        if start is None:
            self._submit(lambda: set_out(at.training, at.tools))
        else:
            self._probe = start.memories.probe
            self._prepared = Prepared(max(0, start.epoch - 1), None, await remember(at.minds))
            at.keeper.begin(start, at.before())
            self._take_up(start, behind_break=False)

    @handles
    async def on_opened(self, opened: Opened) -> None:
        """The first epoch is to be trained, perhaps once more."""
        self._arrive()
        at = self._at
        self._last = None
        if self._prepared.remembered is None:
            self._prepared = self._first
        self._keep(0, opened.kept)
        self._submit(lambda: turn(at.training, None, None, at.tools))

    @handles
    async def on_halt(self, message: Halt) -> None:
        if message.emergency:
            self._conclusion = replace(self._conclusion, halted=message.reason)
        elif not self._conclusion.halted:
            self._conclusion = replace(self._conclusion, interrupted=message.reason)
        self._at.training.stop()
        if message.at_once:
            self._conclude()

    @handles
    async def on_go_back(self, message: GoBack) -> None:
        self._wanted = message.reason

    @handles
    async def on_keep_now(self, _: KeepNow) -> None:
        self._at.keeper.write_newest()

    @handles
    async def on_prepared(self, prepared: Prepared) -> None:
        if prepared.life != self._life:
            return
        self._prepared = prepared
        if prepared.probe is not None:
            self._probe = prepared.probe
        if prepared.nonsense:
            self._at.witness.alert("probe_refused", prepared.nonsense)

    @handles
    async def on_available(self, _: Available) -> None:
        self._overdue = ""

    @handles
    async def on_wrote(self, wrote: Wrote) -> None:
        self._at.keeper.wrote(wrote)
        self._at.witness.wrote(wrote)
        self._at.alarms.wrote(wrote, self._epoch)
        if self._closing and not self._at.keeper.writing:
            self._conclude()

    @handles
    async def on_turned(self, turned: Turned) -> None:
        self._arrive()
        self._settle(turned)
        turned = self._as_it_stands(turned)
        self._last = turned.assembled
        self._at.witness.reached(self._epoch)
        self._keep(turned.result.epoch, turned.kept)
        if turned.finished or self._conclusion.halted:
            self._at.witness.last_epoch(turned.assembled)
            await self._finish()
        elif self._may_go_back():
            self._at.tools.quiet(False)
            reason, self._wanted = self._wanted, ""
            await self._go_back(reason, pass_over=1, behind_break=False)
        else:
            await self._go_on(turned)

    @handles
    async def on_job_failed(self, failure: JobFailed) -> None:
        """A turn broke: go back, or else judge the network as it is; if that fails too, end without."""
        self._at.tools.quiet(False)
        if self._way is not None:
            self._way.failed(failure.error)
            await self._next_way(self._way)
        elif self._conclusion.halted:
            self._close()
        else:
            if self._deciding is not None:
                self._at.witness.boundary(self._deciding)
                self._deciding = None
            ordered = self._at.alarms.trouble(failure.error, self._epoch)
            if ordered is not None and ordered.rollback and not self._conclusion.interrupted:
                await self._go_back(ordered.reason, ordered.moments_back, behind_break=True)
            else:
                reason = f"{type(failure.error).__name__}: {failure.error}"
                if ordered is None:
                    log.error("training failed", exc_info=failure.error)
                    reason = f"{reason} (esper.log in the run's folder says where)"
                    self._at.alarms.failed(reason, self._epoch)
                await self._halt(ordered.reason if ordered is not None else reason)

    @handles
    async def on_finalised(self, message: Finalised) -> None:
        self._conclusion = replace(self._conclusion, final=message.final)
        self._close()

    @property
    def _epoch(self) -> int:
        """The newest epoch that has ended."""
        return self._last.growth.epoch if self._last is not None else 0

    def _settle(self, turned: Turned) -> None:
        """The plan of the last boundary has been applied: only now are its times known."""
        if self._deciding is not None:
            boundary = replace(
                self._deciding,
                decide_s=turned.apply_began - self._decide_from,
                apply_s=turned.apply_ended - turned.apply_began,
                notes=turned.applied.refused if turned.applied is not None else (),
            )
            self._at.witness.boundary(boundary)
            self._at.alarms.boundary(boundary)
        self._deciding = None
        if turned.probe is not None:
            self._at.witness.probe(turned.probe)
        if turned.refused:
            self._at.witness.alert("probe_refused", turned.refused)
        if not turned.trained:
            return
        for text in turned.result.notices:
            self._at.witness.alert("notice", text)
        for seed in turned.result.set_aside:
            told = f"{seed.seed_id} broke step {seed.step} and was set aside: {seed.reason}"
            self._at.witness.alert("seed_set_aside", told)

    def _as_it_stands(self, turned: Turned) -> Turned:
        """The same, with what the controller has to know besides: what can't be had, and how bad it is."""
        left_out = self._at.stock.left_out if self._at.stock is not None else {}
        emergencies = self._at.emergencies
        growth = turned.assembled.growth
        growth = msgspec.structs.replace(
            growth,
            left_out=growth.left_out | frozenset(left_out),
            conservative=growth.conservative or emergencies.conservative,
            resting=emergencies.resting,
            short_of_memory=emergencies.memory_looks > self._memory_looks,
        )
        self._memory_looks = emergencies.memory_looks
        return replace(turned, assembled=replace(turned.assembled, growth=growth))

    def _keep(self, epoch: int, kept: Snapshot | None) -> None:
        """The moment of this boundary, if everyone has said what it remembers since the last one."""
        prepared, at = self._prepared, self._at
        mind = prepared.remembered
        if kept is None or mind is None or prepared.epoch != max(0, epoch - 1):
            return
        memories = Memories(
            controller=mind.controller,
            # Asked when the plan was perhaps still being applied: how that went is known only now.
            engine=msgspec.structs.replace(mind.engine, breakers=at.breakers()),
            windows=mind.windows,
            witness=at.witness.memory(),
            emergency=at.emergencies.state(),
            isolations=at.alarms.isolations,
            probe=self._probe,
        )
        if at.stock is not None:
            memories = msgspec.structs.replace(memories, kernels=at.stock.facts())
        at.keeper.keep(Moment(epoch, kept, memories))
        if self._came_back:  # what lies on the disk may be of a future that did not happen
            at.keeper.write_newest()
        self._came_back = False

    async def _go_on(self, turned: Turned) -> None:
        """Decide, and train on."""
        boundary = await self._boundary(turned)
        await self.context.clock.sleep(HAND_OVER_S)
        await self._tell_the_others(boundary)
        # Asked together, so that everyone wakes once for it and for what it was told.
        plan = ask_survey(self._at.counsel, boundary.assembled) if not boundary.fallback else None
        memories = ask_memories(self._at.minds) if not self._overdue else None
        self._run(self._prepare(boundary.epoch, plan, memories, self._life))
        self._at.keeper.trim()
        self._at.keeper.write_due()

    async def _boundary(self, turned: Turned) -> Boundary:
        """Decide, and let training go on; nothing here waits for anything but the two answers."""
        assembled = turned.assembled
        self._decide_from = turned.assembled_at
        decision = await self._decide(assembled)
        # The copy is no part of what the budget is for: it rests on the network's size alone.
        verdict, trouble = await adapt(self._at.counsel, decision.command, assembled, turned.kept_at)
        if verdict is not None:
            self._at.orders.settled(decision.command.command_id, verdict.applied, verdict.refusal)
        plan, probe, self._probe = (verdict.plan if verdict is not None else None), self._probe, None
        self._submit(lambda: turn(self._at.training, plan, probe, self._at.tools))
        self._deciding = Boundary(
            assembled,
            decision.command,
            verdict,
            decision.fallback or trouble,
            assemble_s=turned.assembled_at - turned.kept_at,
            keep_s=turned.kept_at - turned.epoch_ended,
        )
        return self._deciding

    async def _decide(self, assembled: Assembled) -> Decision:
        budgets = self._at.counsel.budgets
        order = self._at.orders.next(self._at.tools.wall_ns(), budgets.epoch_boundary_ms)
        if order is not None:
            return Decision(order)
        if self._overdue:
            return do_nothing(self._at.counsel, assembled, self._overdue)
        decision = await decide(self._at.counsel, assembled)
        if decision.overdue:
            self._overdue = STILL_BUSY
            self._run(self._wait_for_tamiyo())
        return decision

    async def _tell_the_others(self, boundary: Boundary) -> None:
        """What was decided, to those whom it concerns and those who listen; training runs again."""
        command, verdict, assembled = boundary.command, boundary.verdict, boundary.assembled
        applied, reason = False, boundary.fallback
        if verdict is not None:
            await self._at.minds.kasmina.tell(Commit(verdict.plan.plan_id))
            applied, reason = verdict.applied, verdict.refusal or boundary.fallback
        await self._at.minds.reports.tell(
            Decided(command, assembled.state, assembled.growth, applied, reason)
        )
        state_id = self._at.witness.event_id(assembled.state.packet_id)
        tell(self._at.bus, topics.SYSTEM_STATE, assembled.state, state_id, Priority.NORMAL)
        tell(self._at.bus, topics.ADAPTATION_COMMAND, command, command.command_id, Priority.HIGH)
        self._at.witness.tell_others()
        if self._at.prefetch is not None:
            with suppress(ActorError):  # it is busy, or gone: what is not foreseen is built on the spot
                self._at.prefetch.tell_nowait(Look(assembled.growth))

    async def _prepare(
        self, epoch: int, plan: Awaitable[ProbePlan | None] | None, memories: Answers | None, life: int
    ) -> None:
        """What is to be measured before the next turn, and what everyone remembers by then."""
        probe, nonsense = await surveyed(plan) if plan is not None else (None, "")
        mind = await remembered(memories) if memories is not None else None
        await self.context.me.tell(Prepared(epoch, probe, mind, nonsense, life))

    async def _wait_for_tamiyo(self) -> None:
        """Until the controller has answered everything, or has to be asked again all the same."""
        with suppress(ActorError):
            await self._at.minds.tamiyo.ask(Ready(), deadline_s=OVERDUE_S)
        await self.context.me.tell(Available())

    # Going back ------------------------------------------------------------------------------------

    def _may_go_back(self) -> bool:
        """Someone wants it, and there is somewhere to go back to."""
        if self._wanted:
            self._at.keeper.trim()
        moments = self._at.keeper.moments
        if self._wanted and (not moments or moments[0].epoch >= self._epoch):
            told = "no boundary before this one is kept that one could go back to (checkpoint.boundaries)"
            self._at.witness.alert("rollback_refused", told)
            self._wanted = ""
        return bool(self._wanted)

    async def _go_back(self, reason: str, pass_over: int, *, behind_break: bool) -> None:
        """Return to an earlier moment, or halt if there is none that one can return to."""
        began = self._at.tools.now()
        moments = newest_first(self._at.keeper.moments, pass_over)
        epoch = self._epoch + behind_break  # the epoch that broke has not ended
        self._way = WayBack(reason, epoch, behind_break, began, moments)
        await self._next_way(self._way)

    async def _next_way(self, way: WayBack) -> None:
        at = self._at
        while (moment := await way.next(at.keeper, self.context.threads)) is not None:
            try:
                passed_over = await recall(at.minds, moment.memories)
                way.remembered = await remember(at.minds)
            except ActorError as error:
                way.failed(error)
                continue
            for told in passed_over:
                at.witness.alert("rollback_incomplete", told)
            self._take_up(moment, behind_break=way.behind_break)
            return
        self._way = None
        tried = "; ".join(way.failures) or "no boundary has been kept that one could go back to"
        reason = f"{way.reason}; there is no way back: {tried}"
        at.alarms.no_way_back(reason, self._epoch)
        await self._halt(reason)

    def _take_up(self, moment: Moment, *, behind_break: bool) -> None:
        at = self._at
        self._submit(lambda: take_up(at.training, moment.snapshot, behind_break, at.tools))

    def _arrive(self) -> None:
        """The trainer has gone back: now those who only listen."""
        way, self._way = self._way, None
        if way is None:
            return
        assert way.moment is not None
        memories, epoch = way.moment.memories, way.moment.epoch
        self._life += 1
        self._came_back = True
        self._at.keeper.go_back(epoch)
        self._at.alarms.go_back(memories.isolations)
        self._at.witness.rolled_back(memories.witness, way.facts(self._at.tools.now()))
        for told in way.failures:
            self._at.witness.alert("rollback_passed_over", told)
        self._probe = memories.probe
        self._prepared = Prepared(max(0, epoch - 1), None, way.remembered)

    async def _halt(self, reason: str) -> None:
        """Training can't go on."""
        self._conclusion = replace(self._conclusion, halted=reason)
        await self._finish()

    # Ending ----------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        last, emergencies = self._last, self._at.emergencies
        self._at.keeper.trim()
        if emergencies.halted and not self._conclusion.halted:
            self._conclusion = replace(self._conclusion, halted=emergencies.reason)
        on_disk = self._at.keeper.write_newest() or self._at.keeper.on_disk >= 0
        resumable = on_disk and bool(self._conclusion.halted or self._conclusion.interrupted)
        if last is not None:
            reports = await self._last_reports(CloseWindows(last.state, last.growth, resumable))
            self._conclusion = replace(self._conclusion, reports=reports)
        self._submit(lambda: Finalised(self._at.training.final()))

    async def _last_reports(self, request: CloseWindows) -> tuple[FieldReport, ...]:
        """Of the windows that are still open; an actor that is restarting is waited for."""
        until = self.context.clock.monotonic() + SURVEY_DEADLINE_S
        while (left_s := until - self.context.clock.monotonic()) > 0:
            try:
                return await self._at.minds.reports.ask(request, deadline_s=left_s)
            except ActorRestarting:
                await self.context.clock.sleep(ASK_AGAIN_S)
            except ActorError:
                break
        return ()

    def _close(self) -> None:
        """End once the last moment is on disk, or has not come there for too long."""
        self._closing = True
        if self._at.keeper.writing:
            self._run(self._conclude_after(LAST_WRITE_S))
        else:
            self._conclude()

    async def _conclude_after(self, seconds: float) -> None:
        await self.context.clock.sleep(seconds)
        self._conclude()

    def _conclude(self) -> None:
        if self._at.done.done():
            return
        if self._conclusion.halted:  # then it ends for that, whoever wanted it to end before
            self._conclusion = replace(self._conclusion, interrupted="")
        self._at.done.set_result(self._conclusion)

    def _run(self, errand: Coroutine[Any, Any, None]) -> None:
        """Let `errand` go on beside this actor's messages; at most two are under way."""
        task = asyncio.get_running_loop().create_task(errand)
        self._errands[task] = None
        task.add_done_callback(self._errands.pop)

    def _submit(self, job: Callable[[], Turned | Opened | Finalised]) -> None:
        self._at.lane.submit(job, self._deliver)

    def _deliver(self, outcome: object) -> None:
        assert isinstance(outcome, Turned | Opened | Finalised | JobFailed)
        self._post(outcome)

    def _post(self, outcome: Turned | Opened | Finalised | JobFailed | Wrote) -> None:
        with suppress(ActorError):  # the run was broken off: nobody waits for this any more
            self.context.me.post_from_thread(outcome)
