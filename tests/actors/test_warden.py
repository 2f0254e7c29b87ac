"""The warden hears what goes wrong inside and on the bus, also while everything else is full."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from actors.oona.errors import ConservativeModeError
from actors.oona.memory import MemoryBus
from actors.oona.priority import Lane, Priority
from actors.oona.topics import run_topics
from actors.runtime import ActorRef, ActorSystem, InlineThreads, LoopClock
from actors.runtime.actor import ActorContext
from actors.runtime.simulation import run_simulated
from actors.warden import Troubled, Warden
from contracts import topics
from contracts.emergency import Level, Relief, Trigger, Trouble
from contracts.messages import EmergencySignal, TelemetryPacket
from tests.actors.test_alarm import BORN_NS, FATAL, LOUD, Ring, signal

T = TypeVar("T")
HALT = signal(Level.HALT)


def guarded(test: Callable[[Ring, ActorRef[Troubled | Relief]], Awaitable[T]], seed: int = 0) -> T:
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


def test_a_trouble_from_inside_raises_the_alarm() -> None:
    async def test(ring: Ring, warden: ActorRef[Troubled | Relief]) -> None:
        warden.tell_nowait(Troubled(LOUD), urgent=True)
        await settled(ring)
        assert ring.alarm.level is Level.CONSERVATIVE
        assert [one.level for one in await ring.said()] == [Level.CONSERVATIVE]

    guarded(test)


def test_a_lasting_trouble_can_be_told_to_be_over() -> None:
    async def test(ring: Ring, warden: ActorRef[Troubled | Relief]) -> None:
        warden.tell_nowait(Troubled(Trouble(Trigger.DISK_FULL, "full", 1)), urgent=True)
        await settled(ring)
        assert ring.emergencies.open
        warden.tell_nowait(Relief(Trigger.DISK_FULL), urgent=True)
        await settled(ring)
        assert not ring.emergencies.open

    guarded(test)


def test_a_signal_on_the_bus_raises_it_and_its_own_does_not_come_back() -> None:
    async def test(ring: Ring, warden: ActorRef[Troubled | Relief]) -> None:
        ring.bus.publish_nowait(topics.EMERGENCY, signal(), priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.alarm.level is Level.ELEVATED
        assert len(ring.told) == 1
        rows = [row for row in ring.bus.metrics().groups if row.group == "warden" and row.lane is Lane.URGENT]
        assert [row.ledger.acked for row in rows] == [2], "every signal is acknowledged, its own too"

    guarded(test)


def test_every_order_of_the_loop_freezes_at_once() -> None:
    async def test(ring: Ring, warden: ActorRef[Troubled | Relief]) -> list[str]:
        fill(ring)
        ring.bus.publish_nowait(topics.EMERGENCY, HALT, priority=Priority.EMERGENCY)
        await settled(ring)
        return ring.did

    for seed in range(5):
        did = guarded(test, seed)
        assert did[0] == "freeze: anna: the room is on fire"
        assert "told HALT" in did


def test_it_freezes_while_every_queue_of_the_bus_is_full() -> None:
    async def test(ring: Ring, warden: ActorRef[Troubled | Relief]) -> None:
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
            me.tell_nowait(Troubled(LOUD))
        for _ in range(Warden.urgent_size):
            me.tell_nowait(Troubled(LOUD), urgent=True)
        ring.bus.publish_nowait(topics.EMERGENCY, HALT, priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.did == ["freeze: anna: the room is on fire"]
        assert ring.alarm.level is Level.UNSPECIFIED, "what follows waits for its turn"
        await new.on_stop()

    unguarded(test)


def test_an_urgent_trouble_overtakes_a_full_mailbox() -> None:
    async def test(ring: Ring, warden: ActorRef[Troubled | Relief]) -> None:
        for n in range(Warden.mailbox_size):
            warden.tell_nowait(Troubled(Trouble(Trigger.ISOLATION, f"n{n}", 1, {}, f"s{n}")))
        warden.tell_nowait(Troubled(FATAL), urgent=True)
        await settled(ring)
        assert ring.did[0].startswith("freeze"), "it was seen before all that was told before it"

    guarded(test)


def test_what_is_no_signal_is_passed_over() -> None:
    async def test(ring: Ring, warden: ActorRef[Troubled | Relief]) -> None:
        odd = TelemetryPacket("p", 0, "test")
        ring.bus.publish_nowait(topics.EMERGENCY, odd, priority=Priority.EMERGENCY)
        ring.bus.publish_nowait(topics.EMERGENCY, signal(), priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.alarm.level is Level.ELEVATED
        assert isinstance((await ring.said())[0], EmergencySignal)

    guarded(test)


def test_after_a_restart_it_hears_again() -> None:
    async def test(ring: Ring, warden: ActorRef[Troubled | Relief]) -> None:
        seeing = ring.alarm.see

        def fail(trouble: Trouble) -> None:
            ring.alarm.see = seeing  # type: ignore[method-assign]
            raise RuntimeError("planted")

        ring.alarm.see = fail  # type: ignore[method-assign,assignment]
        warden.tell_nowait(Troubled(LOUD), urgent=True)
        await ring.clock.sleep(1.0)
        ring.bus.publish_nowait(topics.EMERGENCY, HALT, priority=Priority.EMERGENCY)
        await settled(ring)
        assert ring.alarm.level is Level.HALT

    guarded(test)
