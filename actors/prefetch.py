"""Kernels ahead of their use: what the policy may germinate next is fetched, or asked for, beside training.

    Look(view) ─▶ Tamiyo: what is likely? ─▶ Kasmina: which kernels are those? ─▶ Urza: fetch
                                                                    there ─▶ the stock
                                                                not there ─▶ wanted; a request on Oona
    Oona: ready ─▶ Urza: fetch ─▶ the stock          Oona: error ─▶ the blueprint is left out of this run

Nothing waits for this: a germination takes what the stock holds, and what it does not hold is built on the
spot. What is wanted stands in Urza's catalogue; messages only say when to look. The compiler begins with what
it hears of first, if it has nothing else to do, and puts each that comes later ahead of all that wait. So the
likeliest is asked for first, then the others from the least likely on, and the likeliest again.

A look that fails, as somebody is busy or ill, is made again after a rest: no boundary is needed for that.
"""

import asyncio
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol

from actors.hearing import Ear, Heard
from actors.kasmina import KernelsFor
from actors.oona.bus import Bus
from actors.oona.telling import tell
from actors.runtime import Actor, ActorError, ActorRef, handles
from actors.runtime.clock import Clock
from actors.tezzeret.actor import Conservative
from actors.urza import Fetch, GivenUp, Hold, LetGo, Want
from contracts import topics
from contracts.control import Foresee, Look
from contracts.growth import GrowthView
from contracts.kernels import KernelArtifactError, KernelArtifactReady, KernelPrefetchRequest, KernelSpec
from contracts.lifecycle import ACTIVE, Stage
from esper.kasmina.stock import Stock
from esper.urza.errors import Damaged, Missing
from esper.urza.kernel import Kernel

PATIENCE_S = 30.0
"""Deadline of every question that is asked here: nobody but this actor waits for the answers. The first may
take long, where what answers it comes from a cold disk."""
AGAIN_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Rests before a look that failed is made again; behind the last one it waits for the next boundary."""
IN_PLACE = ACTIVE | {Stage.FOSSILIZED}
"""Stages in which a seed's module is part of the network."""
FRONT = 4
"""The likeliest kernels, which are asked for once more when others were likelier before."""
REQUESTS_MAX = 1_000
"""Kernels that are waited for; the oldest are forgotten, and built on the spot if they are grown."""


class Audience(Protocol):
    """Is told how far it is."""

    def kernels(self, ready: int, wanted: int) -> None:
        """So many kernels were fetched, of so many that were looked for."""

    def left_out(self, blueprint_id: str, reason: str) -> None:
        """A blueprint could not be compiled."""

    def built_here(self, blueprint_id: str, reason: str) -> None:
        """No other process can make the blueprint: it is built on the spot."""

    def damaged(self, blueprint_id: str, reason: str) -> None:
        """A stored kernel was not what had been published: it is in quarantine, and made again."""

    def miscompiled(self, blueprint_id: str, reason: str) -> None:
        """Native code of a blueprint computes something else: it is not kept."""

    def no_store(self, reason: str) -> None:
        """The store can't be used: everything is built on the spot."""


@dataclass(frozen=True, slots=True)
class Depot:
    """What prefetching works with; all of it outlives a restart."""

    bus: Bus
    clock: Clock
    stock: Stock
    tamiyo: ActorRef[Foresee]
    kasmina: ActorRef[KernelsFor]
    urza: ActorRef[Fetch | Want | GivenUp | Hold | LetGo]
    tezzeret: ActorRef[Conservative]
    audience: Audience
    run_id: str


@dataclass(frozen=True, slots=True)
class Again:
    """It is time for another look, if the newest has failed."""


class Prefetch(Actor[Look | Again | Heard]):
    """Not critical: without it every module is built on the spot."""

    critical = False
    mailbox_size = 64
    asks = ("tamiyo", "kasmina", "urza")

    def __init__(self, depot: Depot) -> None:
        self._at = depot
        self._newest: Look | None = None
        self._seen: Hashable = None
        """The gist of the newest look; None if that has failed."""
        self._tries = 0
        """Looks since the newest boundary that failed."""
        self._resting: asyncio.Task[None] | None = None
        self._requested: dict[str, KernelSpec] = {}
        """By request id, the oldest first."""
        self._looked_for: set[str] = set()
        self._held: set[str] = set()
        self._told: set[str] = set()
        self._ahead: tuple[str, ...] = ()
        self._numbers = count(1)
        self._conservative = False
        self._ready = 0
        self._unusable = False

    async def on_start(self) -> None:
        answers = (topics.KERNEL_READY, topics.KERNEL_ERROR)
        self._ear = Ear(self._at.bus, answers, "kasmina", self.context.me.tell, self.context.clock)
        self._ear.open()

    async def on_stop(self) -> None:
        self._rest_no_more()
        await self._ear.close()

    @handles
    async def on_look(self, message: Look) -> None:
        self._newest, self._tries = message, 0
        await self._look(message.view)

    @handles
    async def on_again(self, _: Again) -> None:
        if self._newest is not None and self._seen is None:
            await self._look(self._newest.view)

    @handles
    async def on_heard(self, heard: Heard) -> None:
        with heard.delivery:
            match heard.delivery.message:
                case KernelArtifactReady(request_id=request_id):
                    spec = self._requested.pop(request_id, None)
                    if spec is not None:
                        await self._fetch_or_rest(spec)
                case KernelArtifactError(request_id=request_id, reason=reason):
                    spec = self._requested.pop(request_id, None)
                    if spec is not None:
                        self._leave_out(spec.design.blueprint_id, reason)
                case _:
                    pass

    async def _look(self, view: GrowthView) -> None:
        """See what is likely now, unless that was seen already."""
        self._rest_no_more()
        if self._unusable or _gist(view) == self._seen:
            return
        self._seen = _gist(view)
        try:
            await self._provide(view)
        except ActorError:
            self._rest()

    async def _provide(self, view: GrowthView) -> None:
        """Fetch what is likely, and ask for what can't be fetched.

        Raises:
            ActorError: somebody who was asked is busy, or ill. What was done is not done again.
        """
        await self._hold(view)
        await self._conserve(view.conservative)
        likely = await self._at.tamiyo.ask(Foresee(view), deadline_s=PATIENCE_S)
        portable = tuple(one for one in likely if self._is_portable(one.blueprint_id))
        specs = await self._at.kasmina.ask(KernelsFor(portable), deadline_s=PATIENCE_S)
        if not self._unusable:
            waiting = (one for one in specs if not self._at.stock.holds(one))
            self._looked_for.update(one.key for one in waiting if one.key not in self._requested)
        await self._look_up_given_up()
        new = {spec.key for spec in specs if not await self._provided(spec)}
        front = self._front(specs)
        again = set(front) & self._requested.keys() if front != self._ahead else set()
        self._ahead = front
        asked = [spec for spec in specs if spec.key in new | again]
        for spec in (*asked[:1], *reversed(asked)) if len(asked) > 1 else asked:
            await self._request(spec)

    def _rest(self) -> None:
        """Look again after a while, or at the next boundary if that comes first."""
        self._seen = None
        if self._tries < len(AGAIN_S):
            self._rest_no_more()
            self._resting = asyncio.create_task(self._wake(AGAIN_S[self._tries]), name="prefetch rests")
            self._tries += 1

    async def _wake(self, rest_s: float) -> None:
        await self.context.clock.sleep(rest_s)
        with suppress(ActorError):  # it has ended
            await self.context.me.tell(Again())

    def _rest_no_more(self) -> None:
        if self._resting is not None:
            self._resting.cancel()

    async def _hold(self, view: GrowthView) -> None:
        """Keep in the store what is part of the network, and nothing that no longer is."""
        needed = {one.record.kernel for one in view.seeds if one.record.stage in IN_PLACE} - {""}
        for ref in sorted(needed - self._held):
            await self._at.urza.tell(Hold(ref, self._at.run_id))
            self._held.add(ref)
        for ref in sorted(self._held - needed):
            await self._at.urza.tell(LetGo(ref, self._at.run_id))
            self._held.remove(ref)

    async def _conserve(self, on: bool) -> None:
        """In conservative mode the compiler takes little of the machine."""
        if on != self._conservative:
            await self._at.tezzeret.tell(Conservative(on))
            self._conservative = on

    def _is_portable(self, blueprint_id: str) -> bool:
        """Whether another process can make it; the first time that it can't is told."""
        reason = self._at.stock.built_here.get(blueprint_id)
        if reason is not None and blueprint_id not in self._told:
            self._told.add(blueprint_id)
            self._at.audience.built_here(blueprint_id, reason)
        return reason is None

    async def _provided(self, spec: KernelSpec) -> bool:
        """Whether the kernel is in the stock now, or on its way there.

        What was asked for is looked for too: that it is ready may have been told and not have come here.
        """
        if self._at.stock.holds(spec) or self._unusable:
            return True
        return await self._fetch(spec) or spec.key in self._requested

    async def _look_up_given_up(self) -> None:
        """That something can't be made may have been told and not have come here either."""
        if not self._requested:
            return
        given_up = await self._at.urza.ask(GivenUp(), deadline_s=PATIENCE_S)
        if not isinstance(given_up, dict):
            return
        for spec in [one for one in self._requested.values() if one.design.key in given_up]:
            del self._requested[spec.key]
            self._leave_out(spec.design.blueprint_id, given_up[spec.design.key])

    def _front(self, specs: Sequence[KernelSpec]) -> tuple[str, ...]:
        """The likeliest of those that are not there yet, by key."""
        waiting = (spec.key for spec in specs if not self._at.stock.holds(spec))
        return tuple(islice(waiting, FRONT))

    async def _fetch(self, spec: KernelSpec) -> bool:
        """Whether the kernel is in the stock, or nothing can be done for it."""
        answer = await self._at.urza.ask(Fetch(spec), deadline_s=PATIENCE_S)
        match answer:
            case Kernel():
                self._requested.pop(spec.key, None)
                self._at.stock.put(spec, answer)
                self._tell_miscompiled(spec.design.blueprint_id, answer.certificate.miscompiled)
                self._ready += 1
                self._at.audience.kernels(self._ready, len(self._looked_for))
            case Damaged(reason=reason):
                self._requested.pop(spec.key, None)
                self._at.stock.found_damaged()
                self._at.audience.damaged(spec.design.blueprint_id, reason)
                return False
            case Missing():
                return False
            case _:
                self._do_without(str(answer))
        return True

    async def _fetch_or_rest(self, spec: KernelSpec) -> None:
        """The kernel is ready. If Urza is ill, the next look finds it."""
        try:
            await self._fetch(spec)
        except ActorError:
            self._rest()

    async def _request(self, spec: KernelSpec) -> None:
        wanted = await self._at.urza.ask(Want(spec, self._at.run_id), deadline_s=PATIENCE_S)
        if wanted is True:
            self._remember(spec)
            blueprint_id, issued_at = spec.design.blueprint_id, self._at.clock.wall_ns()
            request = KernelPrefetchRequest(spec.key, blueprint_id, self._at.run_id, issued_at)
            tell(
                self._at.bus,
                topics.KERNEL_REQUEST,
                request,
                f"{self._at.run_id}/{spec.key}/{next(self._numbers)}",
            )
            self._at.audience.kernels(self._ready, len(self._looked_for))
        elif wanted is False:
            self._requested.pop(spec.key, None)
            given_up = await self._at.urza.ask(GivenUp(), deadline_s=PATIENCE_S)
            if isinstance(given_up, dict) and spec.design.key in given_up:
                reason = f"{given_up[spec.design.key]} (found out by an earlier run)"
                self._leave_out(spec.design.blueprint_id, reason)
            else:
                await self._fetch(spec)  # it was made just now, by somebody else
        else:
            self._do_without(str(wanted))

    def _remember(self, spec: KernelSpec) -> None:
        self._requested[spec.key] = spec
        if len(self._requested) > REQUESTS_MAX:
            del self._requested[next(iter(self._requested))]

    def _tell_miscompiled(self, blueprint_id: str, reason: str) -> None:
        if reason and self._at.stock.found_miscompiled(blueprint_id, reason):
            self._at.audience.miscompiled(blueprint_id, reason)

    def _leave_out(self, blueprint_id: str, reason: str) -> None:
        if blueprint_id not in self._at.stock.left_out:
            self._at.stock.leave_out(blueprint_id, reason)
            self._at.audience.left_out(blueprint_id, reason)

    def _do_without(self, reason: str) -> None:
        if not self._unusable:
            self._unusable = True
            self._at.audience.no_store(reason)


def _gist(view: GrowthView) -> Hashable:
    """What a forecast rests on; it is asked for again when this has changed."""
    free = tuple(site.site.name for site in view.sites if site.free)
    evidence = view.evidence.probe_id if view.evidence is not None else ""
    return view.params, free, evidence, view.left_out, view.conservative
