"""The parts of a run that the storm can reach: each is the real one, or keeps its books, and may fail."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from actors.keeping import Keeper
from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import RefusedError
from actors.oona.memory import MemoryBus
from actors.oona.priority import Priority
from actors.oona.topics import run_topics
from actors.runtime import LoopClock
from actors.runtime.simulation import SimulatedLoop
from contracts.control import Decided
from contracts.growth import GrowthView, ProbePlan, ProbeReport, SeedFigures
from contracts.messages import AdaptationCommand, FieldReport, SystemState, WallNs
from contracts.view import EventKind, RunView
from esper.kasmina.engine import Engine, EngineState
from esper.kasmina.plan import GraftPlan, Insert, Verdict
from esper.tamiyo.observation import Observation, ObservationMemory
from esper.tolaria.errors import PlanRefused, RestoreFailed, TrainingDiverged
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures
from tests.actors.fakes import FakeSnapshot, FakeTrainer, Spectator
from tests.simulation.lane import SteppedLane
from tests.simulation.storm import Kind, Storm
from tests.simulation.trace import Trace

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

STEPS = 4
"""Steps of an epoch in which a simulated trainer looks whether it should stop."""
LATE_S = (0.0, 0.001, 0.0119, 0.0121, 0.05, 0.3, 1.5, 70.0)
"""What a slow policy takes; a boundary waits 0.012 s."""


@dataclass(frozen=True)
class Kept(FakeSnapshot):
    """The same with the plans that were applied."""

    plans: tuple[GraftPlan, ...] = ()
    applied: tuple[str, ...] = ()


class StormyTrainer(FakeTrainer):
    """Keeps the books of growth in the lane's virtual time; refuses what the real one would refuse."""

    def __init__(self, storm: Storm, lane: SteppedLane, trace: Trace, now: Callable[[], float]) -> None:
        super().__init__(epochs=storm.epochs)
        self.applied: list[str] = []
        self.told_of = 0
        """The newest epoch whose state was assembled."""
        self._storm, self._lane, self._trace, self._now = storm, lane, trace, now

    def _tell(self, line: str) -> None:
        assert self._lane.inside, f"only the lane may {line}"
        self._trace.add(self._now(), f"lane: {line}")

    def apply(self, plan: GraftPlan) -> Applied:
        self._tell(f"apply {plan.plan_id}")
        self._lane.spend(self._storm.between("apply", 0.0001, 0.001))
        self._storm.fail(Kind.JOB, "apply", 0.02)
        again = [one.record.seed_id for one in plan.changes if isinstance(one, Insert) if self._holds(one)]
        if again:
            raise PlanRefused(f"{', '.join(again)}: grafted before")
        self.applied.append(plan.plan_id)
        return super().apply(plan)

    def _holds(self, change: Insert) -> bool:
        """Whether this seed is in the network already."""
        return any(
            isinstance(old, Insert) and old.record.seed_id == change.record.seed_id
            for plan in self.plans
            for old in plan.changes
        )

    def probe(self, plan: ProbePlan, tell: Callable[[int, int], None]) -> ProbeReport:
        self._tell(f"probe {plan.probe_id}")
        if not plan.contenders:
            raise PlanRefused("a probe without contenders")
        self._storm.fail(Kind.JOB, "probe", 0.1)
        self._lane.spend(self._storm.between("probe", 0.01, 0.2))
        return super().probe(plan, tell)

    def run_epoch(self) -> EpochResult:
        self._tell(f"epoch {self.epoch + 1}")
        slow = self._storm.strikes(Kind.SLOW_JOB, "slow epoch", 0.1)
        for _ in range(STEPS):
            if self.stopped:
                break
            self._storm.fail(Kind.JOB, "step", 0.005)
            if self._storm.strikes(Kind.DIVERGES, "step", 0.03):
                raise TrainingDiverged(self.epoch * STEPS, "training loss")
            self._lane.spend(self._storm.between("step length", 0.002, 0.03) * (200 if slow else 1))
        return super().run_epoch()

    def keep(self, restored: FakeSnapshot | None = None) -> Kept:
        self._tell(f"keep {self.epoch}")
        self._lane.spend(self._storm.between("keep", 0.0001, 0.001))
        self._storm.fail(Kind.JOB, "keep", 0.005)
        kept = super().keep(restored)
        return Kept(
            kept.epoch, kept.records, kept.evidence, kept.nbytes, tuple(self.plans), tuple(self.applied)
        )

    def restore(self, snapshot: FakeSnapshot, *, behind_break: bool) -> EpochResult | None:
        assert isinstance(snapshot, Kept)
        self._tell(f"go back to {snapshot.epoch}")
        self._lane.spend(self._storm.between("restore", 0.001, 0.01))
        if self._storm.strikes(Kind.RESTORE, "restore", 0.3):
            raise RestoreFailed("planted", consistent=True)
        self.plans, self.applied = list(snapshot.plans), list(snapshot.applied)
        self.told_of = snapshot.epoch
        return super().restore(snapshot, behind_break=behind_break)

    def assemble(self) -> Assembled:
        self._tell(f"assemble {self.epoch}")
        self._lane.spend(self._storm.between("assemble", 0.0001, 0.001))
        self._storm.fail(Kind.JOB, "assemble", 0.005)
        whole = super().assemble()
        self.told_of = self.epoch
        if not self._storm.strikes(Kind.NOT_FINITE, "figures", 0.1):
            return whole
        state = msgspec.structs.replace(whole.state, validation_loss=math.nan, training_loss=math.inf)
        return Assembled(state, whole.growth, whole.figures)

    def final(self) -> FinalFigures:
        self._tell("judge the finished network")
        self._lane.spend(0.02)
        self._storm.fail(Kind.JOB, "final", 0.1)
        return super().final()

    def stop(self) -> None:
        self._trace.add(self._now(), "told to stop")
        super().stop()

    def _figures(self, seed_id: str) -> SeedFigures:
        figures = super()._figures(seed_id)
        chance = self._storm.stream("quality")
        return msgspec.structs.replace(
            figures,
            loss_without=1.0 + chance.uniform(-0.2, 0.3),
            finite=not (self._storm.strikes(Kind.NOT_FINITE, "seed", 0.05)),
        )


class StormyEngine(Engine):
    """The real engine, which may fail before it has judged or committed."""

    storm: Storm
    tell: Callable[[str], None]

    def begin(self, storm: Storm, tell: Callable[[str], None]) -> None:
        self.storm, self.tell, self.committed = storm, tell, list[str]()
        self._asked: list[tuple[EngineState, tuple[str, ...]]] = []

    def propose(
        self,
        command: AdaptationCommand,
        figures: Mapping[str, SeedFigures],
        epoch: int,
        now_ns: WallNs,
        params_now: int,
        *,
        conservative: bool = False,
        resting: bool = False,
    ) -> Verdict:
        self.storm.fail(Kind.ENGINE, "propose", 0.03)
        verdict = super().propose(
            command, figures, epoch, now_ns, params_now, conservative=conservative, resting=resting
        )
        self.tell(f"kasmina: {verdict.plan.plan_id} {verdict.refusal or 'applied'}")
        return verdict

    def commit(self, plan_id: str) -> None:
        self.tell(f"kasmina: commit {plan_id}")
        self.storm.fail(Kind.ENGINE, "commit", 0.01)
        super().commit(plan_id)
        self.committed.append(plan_id)

    def state(self) -> EngineState:
        self.storm.fail(Kind.ENGINE, "state", 0.02)
        state = super().state()
        self._asked.append((state, tuple(self.committed)))
        return state

    def restore(self, state: EngineState) -> None:
        self.storm.fail(Kind.RESTORE, "engine", 0.1)
        super().restore(state)
        self.committed = next(list(then) for asked, then in self._asked if asked.outcomes is state.outcomes)
        self.tell(f"kasmina: back to {len(self.committed)} plans")


class StormyObservation(Observation):
    """The real windows; the shell may fail before it hands over what was decided."""

    def begin(self, storm: Storm) -> None:
        self._storm, self.watched = storm, list[str]()
        self.forgotten: set[str] = set()
        """Commands that a rollback took back: what it does not report on any more."""
        self.left_open: set[str] = set()
        """Commands whose windows were cut off, for whoever resumes the run."""
        self.reopened: set[str] = set()
        """Commands whose windows a rollback opened again: what followed is another future."""
        self._kept: list[tuple[ObservationMemory, tuple[str, ...]]] = []

    def watch(self, decided: Decided, now_ns: WallNs) -> tuple[FieldReport, ...]:
        self._storm.fail(Kind.REPORTS, "watch", 0.05)
        self.watched.append(decided.command.command_id)
        return super().watch(decided, now_ns)

    def close(
        self, state: SystemState, view: GrowthView, now_ns: WallNs, *, resumable: bool = False
    ) -> tuple[FieldReport, ...]:
        reports = super().close(state, view, now_ns, resumable=resumable)
        self.left_open |= {one.command_id for one in reports} if resumable else set()
        return reports

    def waiting(self) -> set[str]:
        """Commands on which the report waits, or is left to whoever resumes the run."""
        return self.left_open | {report.command_id for report in self.due(math.inf)}

    def remember(self) -> ObservationMemory:
        memory = super().remember()
        self._kept.append((memory, tuple(self.watched)))
        return memory

    def recall(self, memory: ObservationMemory) -> None:
        self._storm.fail(Kind.RESTORE, "windows", 0.1)
        super().recall(memory)
        then = next(then for kept, then in self._kept if kept is memory)
        self.forgotten |= set(self.watched) - set(then)
        self.reopened |= {window.decided.command.command_id for window in memory.windows}


class StormyThreads:
    """Worker threads in virtual time: the work is done and handed over at moments of its own.

    As with real threads, a caller that is cancelled leaves its work behind, which still happens.
    """

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._timers: list[asyncio.TimerHandle] = []

    def end(self) -> None:
        """The process ends, and what the threads still do with it."""
        for timer in self._timers:
            timer.cancel()

    async def run(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        if isinstance(getattr(work, "__self__", None), Keeper):  # it reads the disk
            await asyncio.sleep(self._storm.between("read", 0.001, 1.0))
            return work()
        slow = self._storm.strikes(Kind.SLOW_POLICY, "thread", 0.3)
        takes_s = self._storm.stream("late").choice(LATE_S) if slow else 0.0005
        if slow and self._storm.strikes(Kind.SLOW_POLICY, "hang", 0.05):
            return await outcome  # nobody ever answers
        self._timers.append(loop.call_later(takes_s, _do, work, outcome))
        return await outcome


def _do(work: Callable[[], Any], outcome: "asyncio.Future[Any]") -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - raised again where it is awaited
        if not outcome.done():
            outcome.set_exception(error)
    else:
        if not outcome.done():
            outcome.set_result(result)


class StormyBus(MemoryBus):
    """The real memory bus, whose keeper may fail; every publication is told."""

    def __init__(self, clock: LoopClock, storm: Storm, trace: Trace) -> None:
        super().__init__(run_topics(), clock)
        self.sent: dict[str, list[msgspec.Struct]] = {}
        self.repeated: list[str] = []
        """What the bus took for a repeat, and delivered to nobody."""
        self.turned_away: list[msgspec.Struct] = []
        """What it refused."""
        self._storm, self._trace, self._time = storm, trace, clock.monotonic

    def sent_of(self, topic: str, kind: type[S]) -> list[S]:
        """What was published so far."""
        return [one for one in self.sent.get(topic, ()) if isinstance(one, kind)]

    def publish_nowait(
        self,
        topic: str,
        message: msgspec.Struct,
        *,
        priority: Priority = Priority.NORMAL,
        event_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Receipt:
        self.sent.setdefault(topic, []).append(message)
        if not (event_id or "").startswith("flood"):
            self._trace.add(self._time(), f"bus: {topic} {event_id}")
        try:
            receipt = super().publish_nowait(
                topic, message, priority=priority, event_id=event_id, ttl_s=ttl_s
            )
        except RefusedError:
            self.turned_away.append(message)
            raise
        if receipt.outcome is Outcome.DUPLICATE:
            self.repeated.append(f"{topic} {event_id}")
        return receipt

    async def keep_house(self) -> None:
        self._storm.fail(Kind.BUS, "keeper", 0.02)
        await super().keep_house()


class StormyDisplay(Spectator):
    """A display that fails now and then, and Nissa with it."""

    def __init__(self, storm: Storm) -> None:
        super().__init__()
        self._storm = storm

    def update(self, view: RunView) -> None:
        self._storm.fail(Kind.DISPLAY, "update", 0.1)
        super().update(view)

    def event(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        self._storm.fail(Kind.DISPLAY, "event", 0.02)
        super().event(text, kind, epoch)


class JumpingClock(LoopClock):
    """The loop's time, with a wall clock that somebody sets."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__(loop, wall_ns=10**18)
        self.jumped_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.jumped_ns
