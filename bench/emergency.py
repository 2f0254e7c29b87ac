"""How long it takes from an emergency to frozen training while everything is flooded, and in calm.

What is measured, each time among actors and on a bus of its own: an EmergencySignal(HALT) is published, or
the alarm is raised as whoever finds a trouble in a run does it, and the run's own trainer, at work on the
demo's host in the training thread, ends after its present step. The flood: every topic's normal lane is full,
with publishers parked where they may wait; every actor that a run has works off a mailbox whose normal lane
is full, with senders parked before it; and the loop always has something ready. The calm is the same without
these.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import msgspec

from actors.alarm import Alarm
from actors.lane import ThreadLane
from actors.oona.errors import RefusedError
from actors.oona.memory import MemoryBus
from actors.oona.policy import BusConfig, ConservativePolicy, Overflow
from actors.oona.priority import Priority
from actors.oona.topics import run_topics
from actors.runtime import Actor, ActorRef, ActorSystem, LoopClock, handles
from actors.runtime.governor import Governor
from actors.runtime.own_loop import run_on_own_loop
from actors.warden import Warden
from bench.measure import Budget, Size, percentiles
from bench.real_run import mnist1d
from contracts import topics
from contracts.config import EmergencyConfig
from contracts.emergency import Level, Trigger, Trouble
from contracts.messages import EmergencySignal, TelemetryPacket
from esper.comparison import Ungrown
from esper.tolaria.emergency import Emergencies
from esper.tolaria.trainer import Trainer
from esper.workloads.registry import find_workload

BUDGETS = (Budget("p99_ms", 100.0), Budget("trouble.p99_ms", 100.0))

TRIALS = {Size.SMALL: 1, Size.FULL: 150}
ACTORS = ("oona", "tamiyo", "reports", "kasmina", "prefetch", "urza", "tezzeret", "tolaria", "nissa")
"""Those of a run beside the warden."""
SENDERS = 8
"""Parked before each actor."""
PUBLISHERS = 64
"""Parked before each topic that lets publishers wait."""
HANDLER_S = 50e-6
"""What an actor works at a message."""
UNDER_WAY_S = (0.05, 0.1)
"""How long the flood and the training are under way before the emergency; drawn anew each time."""
NEVER = ConservativePolicy(high_mark=10**9, low_mark=1)
"""With full queues the bus would turn publishers away instead of letting them wait."""
TRIAL_S = 30.0
ENDLESS_GFLOP = 1e9


class Drop(msgspec.Struct, frozen=True):
    """One of very many messages."""


class Flooded(Actor[Drop]):
    """An actor that never comes to the end of its mailbox."""

    mailbox_size = 64

    @handles
    async def on_drop(self, _: Drop) -> None:
        until = time.perf_counter() + HANDLER_S
        while time.perf_counter() < until:
            pass


class Training:
    """The demo's host as a run trains it, a step at a time, until it is frozen."""

    def __init__(self) -> None:
        self.steps_s: list[float] = []
        self._config = mnist1d(policy="none", gflop=ENDLESS_GFLOP)
        self._task = find_workload("mnist1d").task(0)
        self._trainer = self._made()

    def freeze(self, reason: str) -> None:
        """End after the present step, as a run is ended."""
        self._trainer.stop()

    def renew(self) -> None:
        """A trainer that was stopped trains no more: another one."""
        self._trainer = self._made()

    def train(self) -> float:
        """Train until it is frozen; when that was."""
        while True:
            result = self._trainer.run_epoch()
            ended = time.perf_counter()
            if result.steps:
                self.steps_s.append(result.wall_s / result.steps)
            if result.stopped:
                return ended

    def _made(self) -> Trainer:
        return Ungrown(self._config, self._task, 0).trainer


class Trial:
    """One emergency, on the running loop."""

    def __init__(
        self, training: Training, lane: ThreadLane, governor: Governor, stream: random.Random
    ) -> None:
        self._training, self._lane, self._governor, self._stream = training, lane, governor, stream
        self._clock = LoopClock(asyncio.get_running_loop())
        policies = {
            name: msgspec.structs.replace(policy, ttl_s=None, stall_after_s=None, wait_max_s=TRIAL_S)
            for name, policy in run_topics().items()
        }
        self._policies = policies
        self._bus = MemoryBus(policies, self._clock, BusConfig(conservative=NEVER))
        self._alarm = Alarm(
            Emergencies(EmergencyConfig()),
            "run",
            self._bus,
            self._clock,
            lambda: 1,
            training.freeze,
            lambda ordered, trouble: None,
        )

    async def latency_s(self, *, flooded: bool, by_signal: bool) -> float:
        """Seconds from the emergency to frozen training."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[object] = loop.create_future()

        def deliver(outcome: object) -> None:
            loop.call_soon_threadsafe(ended.set_result, outcome)

        system = ActorSystem(self._clock, self._stream, drain_s=0.0)
        system.spawn("warden", lambda: Warden(self._alarm, self._bus))
        refs = [system.spawn(name, Flooded) for name in ACTORS] if flooded else []
        self._training.renew()
        async with system, self._flood(refs):
            self._lane.submit(self._training.train, deliver)
            self._governor.active = True
            await asyncio.sleep(self._stream.uniform(*UNDER_WAY_S))
            began = time.perf_counter()
            self._raise(by_signal=by_signal)
            async with asyncio.timeout(TRIAL_S):
                frozen = await ended
            self._governor.active = False
        await self._bus.close()
        assert isinstance(frozen, float), frozen
        return frozen - began

    def _raise(self, *, by_signal: bool) -> None:
        if by_signal:
            signal = EmergencySignal(Level.HALT, "the benchmark says so", "bench", self._clock.wall_ns())
            self._bus.publish_nowait(topics.EMERGENCY, signal, priority=Priority.EMERGENCY)
        else:
            self._alarm.see(Trouble(Trigger.STEP_STALLED, "the benchmark says so", 1))

    @asynccontextmanager
    async def _flood(self, refs: list[ActorRef[Drop]]) -> AsyncIterator[None]:
        """Everything full while the block runs; nothing if there are no actors to flood."""
        tasks = [asyncio.create_task(_tell(ref)) for ref in refs for _ in range(SENDERS)]
        if refs:
            self._fill()
            waiting = [name for name, policy in self._policies.items() if policy.overflow is Overflow.WAIT]
            tasks += [asyncio.create_task(self._publish(name)) for name in waiting for _ in range(PUBLISHERS)]
            tasks += [asyncio.create_task(self._consume(name)) for name in waiting]
            tasks.append(asyncio.create_task(_spin()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def _fill(self) -> None:
        """Every topic's normal lane."""
        packet = TelemetryPacket("p", 0, "bench")
        for name, policy in self._policies.items():
            for _ in range(policy.capacity):
                self._bus.publish_nowait(name, packet)

    async def _publish(self, topic: str) -> None:
        packet = TelemetryPacket("p", 0, "bench")
        while True:
            with suppress(RefusedError):
                await self._bus.publish(topic, packet)

    async def _consume(self, topic: str) -> None:
        """Slowly: each message that is settled lets one publisher in."""
        async with self._bus.subscribe(topic, "nissa", "bench") as subscription:
            async for delivery in subscription:
                delivery.ack()
                await asyncio.sleep(0)


async def _tell(ref: ActorRef[Drop]) -> None:
    while True:
        await ref.tell(Drop())


async def _spin() -> None:
    for _ in count():
        await asyncio.sleep(0)


def run(size: Size) -> dict[str, object]:
    """The four cases in turn, so that a machine that is slow for a while slows all alike."""
    training, stream, governor = Training(), random.Random(0), Governor()
    lane = ThreadLane("training")
    found: dict[tuple[bool, bool], list[float]] = {
        (flooded, by_signal): [] for flooded in (True, False) for by_signal in (True, False)
    }

    async def trials() -> None:
        for _ in range(TRIALS[size]):
            for (flooded, by_signal), latencies in found.items():
                trial = Trial(training, lane, governor, stream)
                latencies.append(await trial.latency_s(flooded=flooded, by_signal=by_signal))

    try:
        run_on_own_loop(governor, trials)
    finally:
        training.freeze("the benchmark is over")
        lane.close(TRIAL_S)
    signal, trouble, calm_signal, calm_trouble = (
        percentiles(latencies).figures("ms") for latencies in found.values()
    )
    return {
        **signal,
        "trouble": trouble,
        "calm": {"signal": calm_signal, "trouble": calm_trouble},
        "step": percentiles(training.steps_s).figures("ms"),
    }
