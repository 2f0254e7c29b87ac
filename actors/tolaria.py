"""Tolaria acts: one turn of training after another, and between two of them the boundary.

    Turned ─▶ ask Tamiyo (deadline) ─▶ ask Kasmina (what is left of the budget) ─▶ submit the next turn
                                       then, beside training: commit, report, publish, survey

Whatever the others do, a boundary ends: a controller that is late, dead or talks nonsense costs at
most its deadline, and the turn goes on with "do nothing". While an answer is overdue the controller is
not asked again: such boundaries do nothing at once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from actors.kasmina import Adapt, Commit
from actors.lane import JobFailed, Lane
from actors.oona.bus import Bus
from actors.oona.priority import Priority
from actors.oona.telling import tell
from actors.runtime import Actor, ActorError, ActorRef, AskTimeout, handles
from actors.turn import Training, Turned, TurnTools, turn
from contracts import topics
from contracts.config import BudgetConfig
from contracts.control import CloseWindows, Decided, Evaluate, Look, Ready, Survey
from contracts.growth import ProbePlan, ProbeReport
from contracts.messages import AdaptationCommand, CommandType, EmergencyLevel, EmergencySignal, FieldReport
from esper.boundary import Boundary
from esper.kasmina.plan import Verdict
from esper.kasmina.stock import Stock
from esper.tolaria.results import Assembled, FinalFigures

GUARD_MS = 1
"""Part of the boundary's budget that is kept for applying the plan."""
HAND_OVER_S = 0.001
"""The loop really rests this long once a turn is submitted; while it works, the lane can't begin."""
SURVEY_DEADLINE_S = 1.0
"""For what is asked while training runs."""
OVERDUE_S = 60.0
"""How long an overdue answer is waited for before the controller is asked again all the same."""


class Begin(msgspec.Struct, frozen=True):
    """Train the first epoch."""


class Halt(msgspec.Struct, frozen=True):
    """End the run after the present step."""

    reason: str


class Surveyed(msgspec.Struct, frozen=True):
    """The controller has said what it wants measured."""

    plan: ProbePlan | None


class Available(msgspec.Struct, frozen=True):
    """The controller has answered what was overdue."""


@dataclass(frozen=True, slots=True)
class Finalised:
    """The finished network has been judged."""

    final: FinalFigures


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How the run ended; at most one of `halted` and `interrupted` holds a reason."""

    final: FinalFigures | None = None
    halted: str = ""
    interrupted: str = ""
    reports: tuple[FieldReport, ...] = ()
    """Field reports on the windows that were open at the end."""


class Witness(Protocol):
    """Is told the facts of the run as they happen; it has to be quick."""

    def boundary(self, boundary: Boundary) -> None: ...
    def last_epoch(self, assembled: Assembled) -> None: ...
    def probe(self, report: ProbeReport) -> None: ...
    def alert(self, name: str, text: str) -> None: ...
    def tell_others(self) -> None:
        """Training runs again: there is time to publish."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What Tolaria works with; all of it outlives a restart."""

    training: Training
    lane: Lane
    tools: TurnTools
    bus: Bus
    tamiyo: ActorRef[Evaluate | Survey | Ready]
    kasmina: ActorRef[Adapt | Commit]
    reports: ActorRef[Decided | CloseWindows]
    witness: Witness
    budgets: BudgetConfig
    run_id: str
    done: asyncio.Future[Conclusion]
    prefetch: ActorRef[Look] | None = None
    """Is shown how growth stands after each boundary; None if nothing is fetched ahead."""
    stock: Stock | None = None


class Tolaria(Actor[Begin | Turned | Finalised | JobFailed | Halt | Surveyed | Available]):
    """The one actor that drives the run; module and optimizer change only in its lane."""

    mailbox_size = 16
    asks = ("tamiyo", "kasmina", "reports")

    def __init__(self, at: Workplace) -> None:
        self._at = at
        self._deciding: Boundary | None = None
        self._decide_from = 0.0
        self._probe: ProbePlan | None = None
        self._last: Assembled | None = None
        self._conclusion = Conclusion()
        self._overdue = ""
        """What the controller still has not answered; empty if nothing."""
        self._errands: set[asyncio.Task[None]] = set()

    async def on_stop(self) -> None:
        for errand in self._errands:
            errand.cancel()

    @handles
    async def on_begin(self, _: Begin) -> None:
        self._submit(lambda: turn(self._at.training, None, None, self._at.tools))

    @handles
    async def on_halt(self, message: Halt) -> None:
        self._conclusion = replace(self._conclusion, interrupted=message.reason)
        self._at.training.stop()

    @handles
    async def on_surveyed(self, message: Surveyed) -> None:
        self._probe = message.plan

    @handles
    async def on_available(self, _: Available) -> None:
        self._overdue = ""

    @handles
    async def on_turned(self, turned: Turned) -> None:
        self._settle(turned)
        turned = self._without_left_out(turned)
        self._last = turned.assembled
        if turned.finished:
            self._at.witness.last_epoch(turned.assembled)
            await self._finish()
        else:
            boundary = await self._boundary(turned)
            await self.context.clock.sleep(HAND_OVER_S)
            await self._tell_the_others(boundary)
            if not boundary.fallback:
                self._run(self._survey(boundary))

    @handles
    async def on_job_failed(self, failure: JobFailed) -> None:
        """Training can't go on: say so, and judge the network as it is; if that fails too, end without."""
        self._at.tools.quiet(False)
        if self._conclusion.halted:
            self._conclude()
            return
        if self._deciding is not None:
            self._at.witness.boundary(self._deciding)
            self._deciding = None
        reason = f"{type(failure.error).__name__}: {failure.error}"
        self._conclusion = replace(self._conclusion, halted=reason)
        self._at.witness.alert("halted", reason)
        now_ns, run_id = self._at.tools.wall_ns(), self._at.run_id
        signal = EmergencySignal(EmergencyLevel.HALT, reason, "tolaria", now_ns, run_id=run_id)
        self._publish(topics.EMERGENCY, signal, Priority.EMERGENCY, f"{run_id}-halt")
        await self._finish()

    @handles
    async def on_finalised(self, message: Finalised) -> None:
        self._conclusion = replace(self._conclusion, final=message.final)
        self._conclude()

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
        self._deciding = None
        if turned.probe is not None:
            self._at.witness.probe(turned.probe)
        if turned.refused:
            self._at.witness.alert("probe_refused", turned.refused)
        for seed in turned.result.set_aside:
            told = f"{seed.seed_id} broke step {seed.step} and was set aside: {seed.reason}"
            self._at.witness.alert("seed_set_aside", told)

    def _without_left_out(self, turned: Turned) -> Turned:
        """The same, with what could not be compiled named to the controller."""
        left_out = self._at.stock.left_out if self._at.stock is not None else {}
        if not left_out:
            return turned
        growth = msgspec.structs.replace(turned.assembled.growth, left_out=frozenset(left_out))
        return replace(turned, assembled=replace(turned.assembled, growth=growth))

    async def _boundary(self, turned: Turned) -> Boundary:
        """Decide, and let training go on; nothing here waits for anything but the two answers."""
        assembled = turned.assembled
        self._decide_from = turned.assembled_at
        command, fallback = await self._decide(assembled)
        verdict, trouble = await self._adapt(command, assembled, turned.epoch_ended)
        plan, probe, self._probe = (verdict.plan if verdict is not None else None), self._probe, None
        self._submit(lambda: turn(self._at.training, plan, probe, self._at.tools))
        assemble_s = turned.assembled_at - turned.epoch_ended
        self._deciding = Boundary(assembled, command, verdict, fallback or trouble, assemble_s)
        return self._deciding

    async def _decide(self, assembled: Assembled) -> tuple[AdaptationCommand, str]:
        """The controller's command, or "do nothing" and why."""
        if self._overdue:
            return self._do_nothing(assembled, self._overdue), self._overdue
        request = Evaluate(assembled.state, assembled.growth)
        deadline_s = self._at.budgets.tamiyo_inference_ms / 1e3
        try:
            answer = await self._at.tamiyo.ask(request, deadline_s=deadline_s)
        except AskTimeout as error:
            self._overdue = "the controller is still busy with an earlier question"
            self._run(self._wait_for_tamiyo())
            return self._do_nothing(assembled, str(error)), str(error)
        except ActorError as error:
            return self._do_nothing(assembled, str(error)), str(error)
        nonsense = _nonsense(answer, AdaptationCommand)
        return (self._do_nothing(assembled, nonsense) if nonsense else answer), nonsense

    async def _adapt(
        self, command: AdaptationCommand, assembled: Assembled, epoch_ended: float
    ) -> tuple[Verdict | None, str]:
        """The engine's verdict, or None and why there is none."""
        growth, tools, budgets = assembled.growth, self._at.tools, self._at.budgets
        request = Adapt(command, assembled.figures, growth.epoch, tools.wall_ns(), growth.params)
        left_s = (budgets.epoch_boundary_ms - GUARD_MS) / 1e3 - (tools.now() - epoch_ended)
        deadline_s = max(left_s, budgets.adaptation_processing_ms / 1e3)
        try:
            return await self._at.kasmina.ask(request, deadline_s=deadline_s), ""
        except ActorError as error:
            return None, str(error)

    def _do_nothing(self, assembled: Assembled, reason: str) -> AdaptationCommand:
        return AdaptationCommand(
            f"{self._at.run_id}-fallback-{assembled.growth.epoch}",
            CommandType.PAUSE,
            self._at.tools.wall_ns(),
            "tolaria",
            annotations={"action": "wait", "reason": reason},
        )

    async def _tell_the_others(self, boundary: Boundary) -> None:
        """What was decided, to those whom it concerns and those who listen; training runs again."""
        command, verdict, assembled = boundary.command, boundary.verdict, boundary.assembled
        applied, reason = False, boundary.fallback
        if verdict is not None:
            await self._at.kasmina.tell(Commit(verdict.plan.plan_id))
            applied, reason = verdict.applied, verdict.refusal or boundary.fallback
        await self._at.reports.tell(Decided(command, assembled.state, assembled.growth, applied, reason))
        self._publish(topics.SYSTEM_STATE, assembled.state, Priority.NORMAL, assembled.state.packet_id)
        self._publish(topics.ADAPTATION_COMMAND, command, Priority.HIGH, command.command_id)
        self._at.witness.tell_others()
        if self._at.prefetch is not None:
            with suppress(ActorError):  # it is busy, or gone: what is not foreseen is built on the spot
                self._at.prefetch.tell_nowait(Look(assembled.growth))

    async def _survey(self, boundary: Boundary) -> None:
        """What is to be measured before one of the next turns."""
        request = Survey(boundary.assembled.state, boundary.assembled.growth)
        try:
            plan = await self._at.tamiyo.ask(request, deadline_s=SURVEY_DEADLINE_S)
        except ActorError:
            return  # the controller goes without evidence; that it is ill shows at the next boundary
        nonsense = _nonsense(plan, ProbePlan) if plan is not None else ""
        if nonsense:
            self._at.witness.alert("probe_refused", nonsense)
        elif plan is not None:
            await self.context.me.tell(Surveyed(plan))

    async def _wait_for_tamiyo(self) -> None:
        """Until the controller has answered everything, or has to be asked again all the same."""
        with suppress(ActorError):
            await self._at.tamiyo.ask(Ready(), deadline_s=OVERDUE_S)
        await self.context.me.tell(Available())

    async def _finish(self) -> None:
        last = self._last
        if last is not None:
            request = CloseWindows(last.state, last.growth)
            with suppress(ActorError):
                reports = await self._at.reports.ask(request, deadline_s=SURVEY_DEADLINE_S)
                self._conclusion = replace(self._conclusion, reports=reports)
        self._submit(lambda: Finalised(self._at.training.final()))

    def _run(self, errand: Coroutine[Any, Any, None]) -> None:
        """Let `errand` go on beside this actor's messages; at most a survey and a wait are under way."""
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    def _conclude(self) -> None:
        if not self._at.done.done():
            self._at.done.set_result(self._conclusion)

    def _submit(self, job: Callable[[], Turned | Finalised]) -> None:
        self._at.lane.submit(job, self._deliver)

    def _deliver(self, outcome: object) -> None:
        assert isinstance(outcome, Turned | Finalised | JobFailed)
        with suppress(ActorError):  # the run was broken off: nobody waits for this any more
            self.context.me.post_from_thread(outcome)

    def _publish(self, topic: str, message: msgspec.Struct, priority: Priority, event_id: str) -> None:
        # Training does not wait for those who only listen.
        tell(self._at.bus, topic, message, event_id, priority)


def _nonsense(answer: object, due: type) -> str:
    """What is wrong with a controller's answer: a policy of someone else's may break its type's promise."""
    if not isinstance(answer, due):
        return f"the controller answered {type(answer).__name__} where {due.__name__} was due"
    try:
        msgspec.convert(msgspec.to_builtins(answer), due)
    except (msgspec.ValidationError, TypeError) as error:
        return f"the controller's {due.__name__} makes no sense: {error}"
    return ""
