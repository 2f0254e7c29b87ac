"""Brings the actors of one run together, plays the run to its end, and lets them go again.

Everything that a simulation has to replace is handed in: the clock, the bus, the lane, the streams of chance.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from actors.alarm import Alarm
from actors.alarms import RunAlarms
from actors.deciding import Counsel
from actors.kasmina import Kasmina, KernelsFor
from actors.keeping import Keeper
from actors.kernel_news import KernelNews
from actors.lane import Lane
from actors.minds import Minds
from actors.nissa.counters import RunCounters
from actors.nissa.exporter import Exporter
from actors.nissa.http import serve
from actors.nissa.journal import Journal
from actors.nissa.lag import measuring_lag
from actors.nissa.nissa import Lookout, Nissa
from actors.nissa.reading import Reading
from actors.oona.bus import Bus
from actors.oona.errors import RefusedError
from actors.oona.metrics import BusMetrics
from actors.oona.oona import Oona
from actors.orders import Orders
from actors.pipeline import Neighbours, Pipeline, spawn_pipeline
from actors.play import Play
from actors.reports import Post, Reports
from actors.runtime import (
    ActorRef,
    ActorSystem,
    Clock,
    Escalated,
    MailboxFull,
    RestartPolicy,
    SystemSnapshot,
    Threads,
)
from actors.runtime.governor import Governor
from actors.tamiyo import Tamiyo
from actors.tolaria import Tolaria
from actors.turn import TurnTools
from actors.warden import Warden
from actors.witness import RunWitness
from actors.workplace import Begin, Conclusion, GoBack, Halt, KeepNow, Workplace
from contracts.control import Foresee, Look, ReportsRead
from contracts.emergency import Ordered, Trigger, Trouble
from contracts.view import RunFacts
from esper.journal.outbox import Outbox
from esper.tolaria.emergency import Emergencies

DRAIN_S = 1.0
"""Seconds that the actors have at the end, in all, to handle what is queued."""
NEVER_AGAIN = RestartPolicy(restarts_max=0)
"""Tolaria is not restarted: the turn that it was in the middle of would be lost without a trace."""


@dataclass(frozen=True)
class Surroundings:
    """What a real run and a simulated one have differently."""

    clock: Clock
    bus: Bus
    """Has the topics of a run; whoever opened it closes it."""
    lane: Lane
    governor: Governor
    stream: random.Random
    now: Callable[[], float]
    """Seconds, readable from the lane."""
    threads: Threads | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run leaves in memory."""

    conclusion: Conclusion
    witness: RunWitness
    bus: BusMetrics
    system: SystemSnapshot


class Company:
    """The actors of one run. Make it on the running loop; `perform` once."""

    def __init__(self, play: Play, around: Surroundings) -> None:
        self._play = play
        self._around = around
        self._done: asyncio.Future[Conclusion] = asyncio.get_running_loop().create_future()
        self.bus = around.bus
        self.counters = RunCounters()
        self.counters.boundary.budget_s = play.config.budgets.epoch_boundary_ms / 1e3
        self.witness = RunWitness(
            play.run_id, play.facts, self.counters, self.bus, play.names, around.now, around.clock.wall_ns
        )
        self.orders = Orders(play.run_id)
        self.keeper = Keeper(play.config.checkpoint, play.desk, around.now)
        self.emergencies = Emergencies(play.config.emergency)
        if play.start is not None:
            self.emergencies.restore(play.start.memories.emergency)
        self.alarm = Alarm(
            self.emergencies,
            play.run_id,
            self.bus,
            around.clock,
            self.witness.epoch,
            self._freeze,
            self._told,
        )
        self.system = ActorSystem(
            around.clock,
            around.stream,
            on_escalation=self._escalated,
            threads=around.threads,
            drain_s=DRAIN_S,
        )
        self._spawn()

    def halt(self, reason: str) -> None:
        """End the run after its present step, with everything written that a finished one writes."""
        self._tolaria.tell_nowait(Halt(reason), urgent=True)

    def abandon(self, reason: str) -> None:
        """End the run without waiting for the training thread, which does not come back."""
        self._tolaria.tell_nowait(Halt(reason, emergency=True, at_once=True), urgent=True)

    def go_back(self, reason: str) -> None:
        """Return to the boundary before, at the end of the present epoch."""
        self._tolaria.tell_nowait(GoBack(reason), urgent=True)

    def keep_now(self) -> None:
        """Have the newest moment on disk, due or not."""
        self._tolaria.tell_nowait(KeepNow(), urgent=True)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve metrics meanwhile, if that is configured.

        Raises:
            ServeRefused: it can't be done as configured.
        """
        config, around = self._play.config.serve, self._around
        if not config.enabled:
            yield
            return
        exporter = Exporter(
            lambda: Reading(self.counters, self.system.snapshot(), self.bus.metrics()),
            around.governor.boundary_quiet,
            around.clock,
            config.render_every_s,
        )
        async with serve(exporter, config.host, config.port) as address:
            self._play.display.event(f"metrics at {address}/metrics", "info")
            yield

    async def perform(self) -> Outcome:
        """Run to the end."""
        play, around = self._play, self._around
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(measuring_lag(self.counters.loop_lag, around.clock))
            await stack.enter_async_context(self.system)
            around.governor.active = True
            self.witness.live.phase = "training"
            if play.start is not None and play.resumed is not None:
                self.witness.resumed(play.start.memories.witness, play.resumed)
                self.witness.stands_at(self.emergencies.level)
            self._tolaria.tell_nowait(Begin())
            try:
                conclusion = await self._done
            finally:
                around.governor.active = around.governor.boundary_active = False
            self.witness.live.phase = "finishing"
            snapshot = self.system.snapshot()
        return Outcome(conclusion, self.witness, await self._bus_at_the_end(), snapshot)

    async def _bus_at_the_end(self) -> BusMetrics:
        """What the bus did; as last known here, if its back end does not answer."""
        try:
            return await self.bus.refresh()
        except RefusedError:
            return self.bus.metrics()

    def _spawn(self) -> None:
        """Add the actors; they start in the order of who asks whom."""
        play, system, clock = self._play, self.system, self._around.clock
        journal = Journal() if play.journal is None else play.journal
        post = Post(self.bus, journal.scribe, Outbox(), self.witness.alert, lambda: self.keeper.settled)
        system.spawn("oona", lambda: Oona(self.bus))
        tamiyo = system.spawn(
            "tamiyo", lambda: Tamiyo(play.controller, clock, in_thread=play.policy_in_thread)
        )
        reports = system.spawn("reports", lambda: Reports(play.observation, clock, post))
        kasmina = system.spawn("kasmina", lambda: Kasmina(play.engine))
        prefetch = self._spawn_pipeline(play.pipeline, tamiyo, kasmina) if play.pipeline is not None else None
        system.spawn("warden", lambda: Warden(self.alarm, self.bus))
        workplace = self._workplace(Minds(tamiyo, reports, kasmina), prefetch, self._run_alarms(journal))
        self._tolaria = system.spawn("tolaria", lambda: Tolaria(workplace), restarts=NEVER_AGAIN)
        lookout = self._lookout(journal, reports)
        system.spawn("nissa", lambda: Nissa(lookout))

    def _spawn_pipeline(
        self, pipeline: Pipeline, tamiyo: ActorRef[Foresee], kasmina: ActorRef[KernelsFor]
    ) -> ActorRef[Look]:
        """Add those who compile and fetch kernels ahead."""
        play, around = self._play, self._around
        news = KernelNews(self.witness, play.names)
        near = Neighbours(self.bus, around.clock, around.stream, tamiyo, kasmina, news, play.run_id)
        prefetch = spawn_pipeline(self.system, pipeline, near)
        if play.outlook is not None and play.start is None:
            prefetch.tell_nowait(Look(play.outlook))
        return prefetch

    def _lookout(self, journal: Journal, reports: ActorRef[ReportsRead]) -> Lookout:
        """What Nissa looks at."""
        play, around = self._play, self._around
        return Lookout(
            self.bus,
            around.clock,
            self.counters,
            play.samples,
            play.display,
            self.witness.live.view,
            around.governor.boundary_quiet,
            journal,
            reports,
        )

    def _run_alarms(self, journal: Journal) -> RunAlarms:
        """What reads troubles out of boundaries, as it was at the moment that the run goes on from."""
        start = self._play.start
        alarms = RunAlarms(
            self.alarm,
            self._play.config,
            lambda: journal.broken,
            lambda: self.witness.journal_goes_on(journal.lacks),
        )
        if start is not None:
            alarms.go_back(start.memories.isolations)
        return alarms

    def _workplace(self, minds: Minds, prefetch: ActorRef[Look] | None, alarms: RunAlarms) -> Workplace:
        """What Tolaria works with."""
        play, around = self._play, self._around
        return Workplace(
            training=play.training,
            lane=around.lane,
            tools=TurnTools(
                around.now, around.clock.wall_ns, self._quiet, self.witness.live.probing, self.keeper.keeps
            ),
            bus=self.bus,
            minds=minds,
            counsel=self._counsel(minds),
            witness=self.witness,
            emergencies=self.emergencies,
            alarms=alarms,
            keeper=self.keeper,
            orders=self.orders,
            breakers=play.engine.guard.memory,
            done=self._done,
            start=play.start,
            before=play.before,
            prefetch=prefetch,
            stock=play.stock,
        )

    def _counsel(self, minds: Minds) -> Counsel:
        """Whom a boundary asks."""
        play, around = self._play, self._around
        return Counsel(
            minds.tamiyo,
            minds.kasmina,
            play.config.budgets,
            play.run_id,
            around.now,
            around.clock.wall_ns,
            self.witness.event_id,
        )

    @property
    def facts(self) -> RunFacts:
        """What is run."""
        return self._play.facts

    def _quiet(self, boundary: bool) -> None:
        self._around.governor.boundary_active = boundary

    def _freeze(self, reason: str) -> None:
        """Stop training after the present step, and end the run."""
        self._play.training.stop()
        with suppress(MailboxFull):  # it hears of it when the turn that was cut short comes in
            self._tolaria.tell_nowait(Halt(reason, emergency=True), urgent=True)

    def _told(self, ordered: Ordered, trouble: Trouble | None) -> None:
        """Something is wrong, or is not any more."""
        self.witness.emergency(ordered, trouble)
        if ordered.checkpoint:
            self.keep_now()

    def _escalated(self, escalated: Escalated) -> None:
        """An actor has failed for good: training goes on without it, unless it is the one that trains."""
        text = f"{escalated.actor} has failed for good: {escalated.error}"
        if escalated.critical:
            epoch = self.witness.epoch()
            self.alarm.see(Trouble(Trigger.ACTOR_FAILED, text, epoch, {}, escalated.actor))
        else:
            self.witness.alert("actor_failed", text)
        if escalated.actor == "tolaria" and not self._done.done():
            self._done.set_result(Conclusion(halted=text))
