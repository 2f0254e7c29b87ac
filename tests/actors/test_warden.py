"""The warden hears what goes wrong inside and on the bus, also while everything else is full."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from actors.hearing import Heard
from actors.oona.errors import ConservativeModeError
from actors.oona.memory import MemoryBus
from actors.oona.priority import Lane, Priority
from actors.oona.topics import run_topics
from actors.runtime import ActorRef, ActorSystem, InlineThreads, LoopClock
from actors.runtime.actor import ActorContext
from actors.runtime.simulation import run_simulated
from actors.warden import Warden
from contracts import topics
from contracts.emergency import Level, Ordered
from contracts.messages import EmergencySignal, TelemetryPacket
from tests.actors.test_alarm import BORN_NS, Ring, signal

T = TypeVar("T")
HALT = signal(Level.HALT)
WAITS: Any = "a message that nobody comes to"


def guarded(test: Callable[[Ring, ActorRef[Heard]], Awaitable[T]], seed: int = 0) -> T:
    """Run `test` with a warden at work, in virtual time."""

    async def main() -> T:
        clock = LoopClock(asyncio.get_running_loop(), wall_ns=BORN_NS - 1)
        ring = Ring(MemoryBus(run_topics(), clock), clock)
        system = ActorSystem(clock, random.Random(seed), drain_s=0.1)
        warden = system.spawn("warden", lambda: Warden(ring.alarm, ring.bus))
        async with system:
            result = await test(ring, warden)  # type: ignore[arg-type]
        await ring.bus.close()
        return result

    return run_simulated(main, seed=seed)


def unguarded(test: Callable[[Ring], Awaitable[T]]) -> T:
    """Run `test` with an alarm and nobody who listens for it."""

    async def main() -> T:
        clock = LoopClock(asyncio.get_running_loop(), wall_ns=BORN_NS - 1)
        return await test(Ring(MemoryBus(run_topics(), clock), clock))

    return run_simulated(main, seed=0)


async def settled(ring: Ring) -> None:
    await ring.clock.sleep(0.05)


def fill(ring: Ring) -> None:
    """Fill the normal lanes of the topics until the bus takes no more."""
    packet = TelemetryPacket("p", 0, "test")
    policies = run_topics()
    for name in (topics.EMERGENCY, *(name for name in policies if name != topics.EMERGENCY)):
        for n in range(policies[name].capacity):
            with suppress(ConservativeModeError):
                ring.bus.publish_nowait(name, packet, event_id=f"{name} {n}")


def test_a_signal_on_the_bus_raises_it_and_its_own_does_not_come_back() -> None:
    async def test(ring: Ring, warden: ActorRef[Heard]) -> None:
        ring.bus.publish_nowait(topics.EMERGENCY, signal(), priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.alarm.level is Level.ELEVATED
        assert len(ring.told) == 1
        rows = [row for row in ring.bus.metrics().groups if row.group == "warden" and row.lane is Lane.URGENT]
        assert [row.ledger.acked for row in rows] == [2], "every signal is acknowledged, its own too"

    guarded(test)


def test_an_order_is_acknowledged_when_it_is_put_down() -> None:
    async def test(ring: Ring, warden: ActorRef[Heard]) -> None:
        on_disk = asyncio.Event()

        async def put_down() -> str:
            await on_disk.wait()
            return ""

        def acked() -> int:
            rows = [row for row in ring.bus.metrics().groups if row.group == "warden"]
            return sum(row.ledger.acked for row in rows)

        ring.alarm.put_down = put_down
        order = signal(Level.ELEVATED, attributes={"order": "force"})
        ring.bus.publish_nowait(topics.EMERGENCY, order, priority=Priority.EMERGENCY)
        await settled(ring)
        assert (ring.alarm.level, acked()) == (Level.ELEVATED, 0)
        on_disk.set()
        await settled(ring)
        assert acked() == 2, "the order, and that the level has changed"

    guarded(test)


def test_every_order_of_the_loop_freezes_at_once() -> None:
    async def test(ring: Ring, warden: ActorRef[Heard]) -> list[str]:
        fill(ring)
        ring.bus.publish_nowait(topics.EMERGENCY, HALT, priority=Priority.EMERGENCY)
        await settled(ring)
        return ring.did

    for seed in range(5):
        did = guarded(test, seed)
        assert did[0] == "freeze: anna: the room is on fire"
        assert "told HALT" in did


def test_it_freezes_while_every_queue_of_the_bus_is_full() -> None:
    async def test(ring: Ring, warden: ActorRef[Heard]) -> None:
        fill(ring)
        assert ring.bus.metrics().conservative, "it takes urgent messages only"
        ring.bus.publish_nowait(topics.EMERGENCY, HALT, priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.did[0].startswith("freeze")
        assert ring.alarm.level is Level.HALT

    guarded(test)


def test_it_freezes_while_both_lanes_of_its_mailbox_are_full() -> None:
    """Whoever listens freezes; the mailbox, which nobody empties here, is for the rest."""

    async def test(ring: Ring) -> None:
        stream = random.Random(0)
        idle = ActorSystem(ring.clock, stream)
        new = Warden(ring.alarm, ring.bus)
        me = idle.spawn("warden", lambda: new)
        new.context = ActorContext(me, ring.clock, stream, InlineThreads())
        await new.on_start()
        for _ in range(Warden.mailbox_size):
            me.tell_nowait(WAITS)
        for _ in range(Warden.urgent_size):
            me.tell_nowait(WAITS, urgent=True)
        ring.bus.publish_nowait(topics.EMERGENCY, HALT, priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.did == ["freeze: anna: the room is on fire"]
        assert ring.alarm.level is Level.UNSPECIFIED, "what follows waits for its turn"
        await new.on_stop()

    unguarded(test)


def test_what_is_no_signal_is_passed_over() -> None:
    async def test(ring: Ring, warden: ActorRef[Heard]) -> None:
        odd = TelemetryPacket("p", 0, "test")
        ring.bus.publish_nowait(topics.EMERGENCY, odd, priority=Priority.EMERGENCY)
        ring.bus.publish_nowait(topics.EMERGENCY, signal(), priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.alarm.level is Level.ELEVATED
        assert isinstance((await ring.said())[0], EmergencySignal)

    guarded(test)


def test_after_a_restart_it_hears_again() -> None:
    async def test(ring: Ring, warden: ActorRef[Heard]) -> None:
        hearing = ring.alarm.hear

        def fail(event_id: str, heard: EmergencySignal) -> Ordered | None:
            ring.alarm.hear = hearing  # type: ignore[method-assign]
            raise RuntimeError("planted")

        ring.alarm.hear = fail  # type: ignore[method-assign]
        ring.bus.publish_nowait(topics.EMERGENCY, signal(), priority=Priority.EMERGENCY)
        await ring.clock.sleep(1.0)
        ring.bus.publish_nowait(topics.EMERGENCY, HALT, priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.alarm.level is Level.HALT

    guarded(test)
