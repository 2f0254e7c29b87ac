"""The system: all actors of a run, started and stopped in the order of who asks whom."""

import random
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from actors.runtime.actor import Actor
from actors.runtime.clock import Clock
from actors.runtime.dead_letters import DeadLetter, DeadLetters
from actors.runtime.desk import Desk
from actors.runtime.errors import StartFailed
from actors.runtime.lanes import Lane
from actors.runtime.mailbox import Mailbox
from actors.runtime.rates import Rate
from actors.runtime.ref import ActorRef
from actors.runtime.runner import Crowd, Runner
from actors.runtime.snapshot import ActorSnapshot, LaneSnapshot, SystemSnapshot
from actors.runtime.supervisor import Escalated, RestartPolicy, Supervisor, Surroundings
from actors.runtime.threads import Threads, WorkerThreads
from actors.runtime.topology import start_order

M = TypeVar("M")

DRAIN_S = 5.0
"""Seconds that a stopping system gives all its actors together to handle what is queued."""
START_S = 60.0
"""Seconds that one actor may take to come up."""


class ActorSystem:
    """Any number of systems may live side by side; every test has its own."""

    def __init__(
        self,
        clock: Clock,
        stream: random.Random,
        *,
        on_escalation: Callable[[Escalated], None] | None = None,
        threads: Threads | None = None,
        drain_s: float = DRAIN_S,
    ) -> None:
        self.dead_letters = DeadLetters()
        self._clock = clock
        self._seed = stream.getrandbits(64)
        self._on_escalation = on_escalation
        self._threads = WorkerThreads() if threads is None else threads
        self._drain_s = drain_s
        self._desk = Desk(clock.monotonic, self._bury)
        self._crowd = Crowd()
        self._supervisors: dict[str, Supervisor] = {}
        self._rates: dict[str, Rate] = {}
        self._order: list[Supervisor] = []
        self._started = False

    # Making actors ---------------------------------------------------------------------------------

    def spawn(
        self, name: str, factory: Callable[[], Actor[M]], *, restarts: RestartPolicy | None = None
    ) -> ActorRef[M]:
        """Add an actor and return its address, which takes messages at once.

        `factory` makes the first instance now and another for each restart. Actors are spawned before
        the system starts; `ValueError` if the name is taken or the system has started.
        """
        if self._started or name in self._supervisors:
            why = "the system has started; spawn before that" if self._started else "the name is taken"
            raise ValueError(f"can't spawn {name!r}: {why}")
        first = factory()
        bury = partial(self._bury, name)
        mailbox = Mailbox(
            name,
            capacity=first.mailbox_size,
            urgent_capacity=first.urgent_size,
            overflow=first.overflow,
            bury=bury,
        )
        ref: ActorRef[M] = ActorRef(name, mailbox, self._desk)
        around = Surroundings(self._clock, self.stream(name), self._threads, self._desk, self._escalated)
        runner = Runner(mailbox, self._desk, self._crowd, self._clock.monotonic, bury)
        policy = RestartPolicy() if restarts is None else restarts
        self._supervisors[name] = Supervisor(ref, runner, factory, first, policy, around)
        self._rates[name] = Rate(self._clock.monotonic())
        return ref

    def stream(self, name: str) -> random.Random:
        """A random stream of its own for `name`; the same for the same system seed, whoever else draws."""
        return random.Random(f"{self._seed}/{name}")

    # Start and stop --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every actor, whoever is asked before whoever asks.

        Raises `AskCycle` or `UnknownActor` before anything has started, and `StartFailed` after
        stopping again what had started.
        """
        if self._started:
            raise ValueError("a system starts once; make another")
        order = start_order({name: each.asks for name, each in self._supervisors.items()})
        self._desk.open()
        self._started = True
        for name in order:
            supervisor = self._supervisors[name]
            self._order.append(supervisor)
            if not await supervisor.start(START_S) and supervisor.critical:
                reason = supervisor.last_error or f"took more than {START_S:g} s"
                await self.stop(0.0)
                raise StartFailed(name, reason)

    async def stop(self, drain_s: float | None = None) -> None:
        """Stop in reverse order: each handles what is queued, all in `drain_s` seconds, or is cancelled."""
        deadline = self._clock.monotonic() + (self._drain_s if drain_s is None else drain_s)
        while self._order:
            await self._order.pop().stop(deadline - self._clock.monotonic())
        for supervisor in self._supervisors.values():
            await supervisor.stop(0.0)
        self._desk.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Looking ---------------------------------------------------------------------------------------

    def snapshot(self) -> SystemSnapshot:
        """The topology as it is now, with depths, counts and rates."""
        return SystemSnapshot(
            at_wall_ns=self._clock.wall_ns(),
            actors=tuple(self._actor_snapshot(each) for each in self._supervisors.values()),
            open_asks=self._desk.open_asks,
            dead_letters=self.dead_letters.count,
        )

    def _actor_snapshot(self, supervisor: Supervisor) -> ActorSnapshot:
        runner = supervisor.runner
        mailbox = runner.mailbox
        mailbox.note_depth()
        return ActorSnapshot(
            name=supervisor.name,
            state=supervisor.state,
            critical=supervisor.critical,
            asks=supervisor.asks,
            normal=_lane_snapshot(mailbox, mailbox.normal),
            urgent=_lane_snapshot(mailbox, mailbox.urgent),
            handled=runner.handled,
            failed=runner.failed,
            expired=runner.expired,
            unhandled=runner.unhandled,
            restarts=supervisor.restarts,
            rate_per_s=self._rates[supervisor.name].per_s(runner.handled, self._clock.monotonic()),
        )

    # From the actors -------------------------------------------------------------------------------

    def _bury(self, actor: str, message: object, cause: str) -> None:
        self.dead_letters.add(DeadLetter(actor, message, cause, self._clock.wall_ns()))

    def _escalated(self, escalated: Escalated) -> None:
        if self._on_escalation is not None:
            self._on_escalation(escalated)


def _lane_snapshot(mailbox: Mailbox, lane: Lane) -> LaneSnapshot:
    return LaneSnapshot(
        depth=mailbox.depth(lane),
        capacity=lane.capacity,
        high_water=lane.high_water,
        parked=len(lane.parked),
        refused=lane.refused,
        dropped=lane.dropped,
    )
