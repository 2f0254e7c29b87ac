"""The boundary that is open: decided while training stands, told and settled once it runs again.

Turned ─▶ ask Tamiyo (deadline) ─▶ ask Kasmina (what is left of the budget) ─▶ the next turn applies it
       ─▶ settle, and tell the others
"""

from contextlib import suppress
from dataclasses import replace

import msgspec

from actors.deciding import OVERDUE_S, STILL_BUSY, Decision, adapt, decide, do_nothing
from actors.errands import Errands
from actors.kasmina import Commit
from actors.oona.priority import Priority
from actors.oona.telling import tell
from actors.runtime import ActorError, ActorRef
from actors.turn import Applying, Turned
from actors.workplace import Available, Witness, Workplace
from contracts import topics
from contracts.control import Decided, Look, Ready
from esper.boundary import Boundary
from esper.tolaria.results import Assembled


class OpenBoundary:
    """One run's boundaries, of which one at a time is decided and not yet applied."""

    def __init__(self, at: Workplace, errands: Errands, tolaria: ActorRef[Available]) -> None:
        """`tolaria` is told when a controller that was late can be asked again."""
        self._at = at
        self._errands = errands
        self._tolaria = tolaria
        self._deciding: Boundary | None = None
        self._decide_from = 0.0
        self._applying: Applying | None = None
        """Of the plan of the boundary that is open; set by the lane."""
        self._overdue = ""
        self._memory_looks = 0
        """Those that a boundary knew of: what it takes out because of one has not shown before the next."""

    @property
    def overdue(self) -> str:
        """What the controller still has not answered; empty if nothing."""
        return self._overdue

    def answered(self) -> None:
        """The controller can be asked again."""
        self._overdue = ""

    def begun(self, applying: Applying) -> None:
        """The plan has been applied; called from the lane."""
        self._applying = applying

    def settle(self) -> None:
        """Record the boundary as soon as its plan has been applied: only then are its times known.

        Asked when training runs again and, for a plan that takes longer, at the end of the turn.
        """
        applying, deciding = self._applying, self._deciding
        if applying is None or deciding is None:
            return
        boundary = replace(
            deciding,
            decide_s=applying.began - self._decide_from,
            apply_s=applying.ended - applying.began,
            notes=applying.applied.refused if applying.applied is not None else (),
        )
        self._deciding = None
        self._at.witness.boundary(boundary)
        self._at.alarms.boundary(boundary)

    def cut_short(self) -> None:
        """The turn that was to apply the plan broke: the boundary is recorded as far as it is known."""
        self.settle()
        if self._deciding is not None:
            self._at.witness.boundary(self._deciding)
            self._deciding = None

    def as_it_stands(self, turned: Turned) -> Turned:
        """The same, with what the controller has to know besides: what can't be had, and how bad it is."""
        stock, emergencies = self._at.stock, self._at.emergencies
        left_out = stock.left_out if stock is not None else ()
        short_of_memory = emergencies.memory_looks > self._memory_looks
        self._memory_looks = emergencies.memory_looks
        if not (left_out or emergencies.conservative or emergencies.resting or short_of_memory):
            return turned
        growth = turned.assembled.growth
        growth = msgspec.structs.replace(
            growth,
            left_out=growth.left_out.union(left_out),
            conservative=growth.conservative or emergencies.conservative,
            resting=emergencies.resting,
            short_of_memory=short_of_memory,
        )
        return replace(turned, assembled=replace(turned.assembled, growth=growth))

    async def decide(self, turned: Turned) -> Boundary:
        """What shall be done; nothing here waits for anything but the two answers."""
        assembled = turned.assembled
        self._decide_from, self._applying = turned.assembled_at, None
        decision = await self._decision(assembled)
        # The copy is no part of what the budget is for: it rests on the network's size alone.
        verdict, trouble = await adapt(self._at.counsel, decision.command, assembled, turned.kept_at)
        if verdict is not None:
            self._at.orders.settled(decision.command.command_id, verdict.applied, verdict.refusal)
        self._deciding = Boundary(
            assembled,
            decision.command,
            verdict,
            decision.fallback or trouble,
            assemble_s=turned.assembled_at - turned.kept_at,
            keep_s=turned.kept_at - turned.epoch_ended,
        )
        return self._deciding

    async def tell(self, boundary: Boundary) -> None:
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

    async def _decision(self, assembled: Assembled) -> Decision:
        budgets = self._at.counsel.budgets
        order = self._at.orders.next(self._at.tools.wall_ns(), budgets.epoch_boundary_ms)
        if order is not None:
            return Decision(order)
        if self._overdue:
            return do_nothing(self._at.counsel, assembled, self._overdue)
        decision = await decide(self._at.counsel, assembled)
        if decision.overdue:
            self._overdue = STILL_BUSY
            self._errands.run(self._wait_for_tamiyo())
        return decision

    async def _wait_for_tamiyo(self) -> None:
        """Until the controller has answered everything, or has to be asked again all the same."""
        with suppress(ActorError):
            await self._at.minds.tamiyo.ask(Ready(), deadline_s=OVERDUE_S)
        await self._tolaria.tell(Available())


def tell_of_turn(witness: Witness, turned: Turned) -> None:
    """What the turn itself brought to light."""
    if turned.probe is not None:
        witness.probe(turned.probe)
    if turned.refused:
        witness.alert("probe_refused", turned.refused)
    if not turned.trained:
        return
    for text in turned.result.notices:
        witness.alert("notice", text)
    for seed in turned.result.set_aside:
        told = f"{seed.seed_id} broke step {seed.step} and was set aside: {seed.reason}"
        witness.alert("seed_set_aside", told)
