"""Brings a storm's faults over a company: stops, cuts, floods, dying consumers, stalls, clock jumps."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors.kasmina import Commit
from actors.nissa.nissa import Refresh
from actors.oona.errors import BusError
from actors.runtime import ActorError
from actors.runtime.simulation import SimulatedLoop
from contracts import topics
from contracts.control import Ready
from contracts.emergency import Order
from contracts.messages import EmergencyLevel, TelemetryPacket
from tests.simulation.players import JumpingClock
from tests.simulation.storm import Kind, Storm
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from tests.simulation.scene import WatchedCompany

SPAN_S = 3.0
"""Most faults fall into the first seconds; a run of 24 epochs takes about two."""
FORCED = (EmergencyLevel.ELEVATED, EmergencyLevel.CONSERVATIVE, EmergencyLevel.CONSERVATIVE)


@dataclass
class Weather:
    """The faults that come from outside the actors; `stalls_s` sums what the loop stood still."""

    storm: Storm
    company: "WatchedCompany"
    clock: JumpingClock
    trace: Trace
    loop: SimulatedLoop
    halted_at_s: float | None = None
    stalled_s: float = 0.0
    cut: bool = False
    sent_back: bool = False
    """Whether an operator has had the run go back."""
    when_cut: Callable[[], None] = lambda: None
    """What ends at that very moment with the process."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def begin(self, run: "asyncio.Task[object]") -> None:
        """Set the times of everything that this storm has in store."""
        storm = self.storm
        for n in range(storm.stream("stops").randint(1, 3) if Kind.STOP in storm.kinds else 0):
            self._at(storm.between("stop", 0.0, SPAN_S), self._halt, n)
        if Kind.CUT in storm.kinds and storm.stream("cut").random() < 0.5:
            self._at(storm.between("cut", 0.0, SPAN_S), self._cut, run)
        for _ in range(4 if Kind.STALL in storm.kinds else 0):
            self._at(storm.between("stall", 0.0, SPAN_S), self._stall)
        for _ in range(4 if Kind.WALL_CLOCK in storm.kinds else 0):
            self._at(storm.between("jump", 0.0, SPAN_S), self._jump)
        for _ in range(5 if Kind.ORDERS in storm.kinds else 0):
            self._at(storm.between("order", 0.0, SPAN_S), self._order)
        if Kind.FLOOD in storm.kinds:
            self.tasks += [self.loop.create_task(self._flood(n), name=f"flood {n}") for n in range(2)]
        if Kind.CONSUMERS in storm.kinds:
            self.tasks += [self.loop.create_task(self._consume(n), name=f"visitor {n}") for n in range(3)]

    async def end(self) -> None:
        """End what still goes on."""
        for timer in self.timers:
            timer.cancel()
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def _at(self, when_s: float, strike: Callable[..., None], *arguments: object) -> None:
        self.timers.append(self.loop.call_later(when_s, strike, *arguments))

    @property
    def lost_commits(self) -> bool:
        """Whether the engine failed at a commit: it then knows less than the trainer, and it is told so."""
        return any(isinstance(one.message, Commit) for one in self.company.system.dead_letters.listed())

    def _told(self, kind: Kind, line: str) -> None:
        self.storm.struck[kind] += 1
        self.trace.add(self.loop.time(), f"storm: {line}")

    def _halt(self, n: int) -> None:
        self._told(Kind.STOP, f"halt {n}")
        if self.halted_at_s is None:
            self.halted_at_s = self.loop.time()
        self.company.halt(f"stop {n}")

    def _cut(self, run: "asyncio.Task[object]") -> None:
        if not run.done():
            self._told(Kind.CUT, "cut off")
            self.cut = True
            self.when_cut()
            run.cancel()

    def _stall(self) -> None:
        seconds = self.storm.between("stall length", 0.001, 2.0)
        self._told(Kind.STALL, f"the loop stands still for {seconds:.3f} s")
        self.stalled_s += seconds
        self.loop.stall(seconds)

    def _order(self) -> None:
        """What an operator may want at any moment."""
        chance = self.storm.stream("which order")
        if self.company.concluded:
            return
        orders: dict[str, Callable[[], object]] = {
            "go back": lambda: self.company.go_back("an order"),
            "keep now": self.company.keep_now,
            "force": lambda: self.company.alarm.steer(Order("force", chance.choice(FORCED), "operator")),
            "hold": lambda: self.company.alarm.steer(Order("hold", by="operator")),
            "release": lambda: self.company.alarm.steer(Order("release", by="operator")),
        }
        name = chance.choice(sorted(orders))
        self._told(Kind.ORDERS, name)
        self.sent_back |= name == "go back"
        with suppress(ActorError):
            orders[name]()

    def _jump(self) -> None:
        seconds = self.storm.stream("jump length").choice([-86_400.0, -1.0, 0.5, 3600.0, 86_400.0 * 365])
        self._told(Kind.WALL_CLOCK, f"the wall clock is set by {seconds:g} s")
        self.clock.jumped_ns += int(seconds * 1e9)

    async def _flood(self, number: int) -> None:
        """Bursts of messages to the actors and on the bus, more than there is room for."""
        chance = self.storm.stream(f"flood {number}")
        for burst in range(8):
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            if self.company.concluded:
                return
            self._told(Kind.FLOOD, f"flood {number}.{burst}")
            for n in range(chance.choice([20, 100, 1200])):
                packet = TelemetryPacket(f"flood-{number}-{burst}-{n}", self.clock.wall_ns(), "storm")
                with suppress(BusError):
                    self.company.bus.publish_nowait(topics.TELEMETRY, packet, event_id=packet.packet_id)
                with suppress(ActorError):
                    self._ref("nissa").tell_nowait(Refresh())
            asks = [self._ask() for _ in range(chance.choice([1, 80]))]
            await asyncio.gather(*asks)

    async def _ask(self) -> None:
        with suppress(ActorError):
            await self._ref("tamiyo").ask(Ready(), deadline_s=0.5)

    def _ref(self, name: str):  # type: ignore[no-untyped-def]
        return self.company.system._supervisors[name]._ref

    async def _consume(self, number: int) -> None:
        """A consumer that takes messages and dies with them in its hands, again and again."""
        chance = self.storm.stream(f"visitor {number}")
        for _ in range(6):
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            try:
                with suppress(BusError):
                    visitor = self.company.bus.subscribe(
                        topics.ALL, f"group {number % 2}", f"visitor {number}"
                    )
                    taken = await visitor.receive(chance.randint(1, 40), wait_s=chance.uniform(0.0, 0.5))
                    for one in taken:
                        if chance.random() < 0.5:
                            one.ack()
                        elif chance.random() < 0.3:
                            one.nack(error="the visitor is ill")
                    self._told(Kind.CONSUMERS, f"visitor {number} dies with {len(taken)} in hand")
                    await asyncio.sleep(chance.uniform(0.0, 0.3))
            finally:
                visitor.close()
