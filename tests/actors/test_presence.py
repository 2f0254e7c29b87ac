"""A run says that it is there, and says once when the way to its bus is lost and once when it is back."""

import asyncio
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from actors.oona.memory import MemoryBus
from actors.oona.metrics import BusMetrics, LinkRow
from actors.oona.open import OpenBus
from actors.oona.topics import run_topics
from actors.presence import (
    BUS_CONSERVATIVE,
    BUS_FULL,
    BUS_LOST,
    BUS_OVERTAXED,
    FRAMES_REFUSED,
    OVERTAXED_TEXT,
    RETIRE_EVERY,
    Presence,
    present,
)
from actors.runtime import LoopClock
from actors.runtime.simulation import run_simulated
from contracts.registry import ControlFacts, Pulse, RunEntry
from contracts.report import Ending
from contracts.view import RunFacts
from tests.actors.fakes import Spectator
from tests.actors.observing import MemoryRegistry

ENTRY = RunEntry("run", RunFacts("w", "p", 0, "runs"), 0)
LINK = LinkRow(
    connected=True, since_s=0.0, reconnects=0, outbox=0, outbox_lost=0, retained=0, uncertain=0, refused={}
)


@dataclass
class Witnessed:
    """What a witness is told by presence."""

    alerts: list[str] = field(default_factory=list)
    pulses: int = 0

    def pulse(self) -> Pulse:
        self.pulses += 1
        return Pulse(self.pulses)

    def alert(self, name: str, text: str) -> None:
        self.alerts.append(f"{name}: {text}")

    def lost(self, name: str, text: str) -> None:
        self.alerts.append(f"lost {name}")

    def regained(self, name: str) -> None:
        self.alerts.append(f"regained {name}")


class Linked(MemoryBus):
    """A bus with a link that a test breaks."""

    link: LinkRow | None = LINK
    cause = ""

    def metrics(self) -> BusMetrics:
        now = super().metrics()
        return replace(now, link=self.link, conservative=bool(self.cause), conservative_cause=self.cause)


@dataclass
class World:
    """One presence and all that it touches."""

    clock: LoopClock
    bus: Linked
    presence: Presence
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    witness: Witnessed = field(default_factory=Witnessed)
    spectator: Spectator = field(default_factory=Spectator)
    retired: list[float] = field(default_factory=list)


def a_world() -> World:
    clock = LoopClock(asyncio.get_running_loop())
    world = World(clock, Linked(run_topics(), clock), None)  # type: ignore[arg-type]

    async def retire(seconds: float) -> None:
        world.retired.append(seconds)

    async def nobody() -> None: ...

    opened = OpenBus(world.bus, retire, nobody)
    world.presence = Presence(ENTRY, world.registry, world.witness, opened, world.spectator, clock)
    return world


def test_a_run_is_announced_at_once_beats_each_second_and_ends_with_its_last_word() -> None:
    async def main() -> World:
        world = a_world()
        async with present(world.presence, world.clock, lambda: False):
            await world.clock.sleep(0.01)
            assert world.registry.entries["run"].pulse.number == 1
            await world.clock.sleep(10.0)
            assert 10 <= world.registry.puts <= 12
            assert world.registry.entries["run"].ended is None
            world.presence.over(Ending("halted", "smoke"), "it burned")
            await world.clock.sleep(3.0)
            assert world.registry.entries["run"].ended is None, "the last word is the last"
        return world

    entry = run_simulated(main, seed=0).registry.entries["run"]
    assert (entry.ended, entry.closing) == (Ending("halted", "smoke"), "it burned")


def test_a_run_that_breaks_off_says_so() -> None:
    async def main() -> World:
        world = a_world()
        with pytest.raises(ZeroDivisionError):
            async with present(world.presence, world.clock, lambda: False):
                raise ZeroDivisionError
        return world

    ended = run_simulated(main, seed=0).registry.entries["run"].ended
    assert ended == Ending("interrupted", "it broke off")


def test_what_the_server_keeps_is_given_its_time_to_live_at_the_start_now_and_then_and_at_the_end() -> None:
    async def main() -> World:
        world = a_world()
        async with present(world.presence, world.clock, lambda: False):
            await world.clock.sleep(RETIRE_EVERY + 5.0)
        return world

    assert len(run_simulated(main, seed=0).retired) == 3


def test_a_boundary_is_not_disturbed_but_does_not_silence_a_run() -> None:
    async def main() -> World:
        world, quiet = a_world(), True
        async with present(world.presence, world.clock, lambda: quiet):
            await world.clock.sleep(0.5)
            assert world.registry.puts == 0
            quiet = False
            await world.clock.sleep(0.1)
            assert world.registry.puts == 1
            quiet = True
            await world.clock.sleep(10.0)
            assert world.registry.puts >= 4
        return world

    run_simulated(main, seed=0)


def test_a_registry_that_is_cut_off_costs_nothing_but_the_signs_of_life() -> None:
    async def main() -> World:
        world = a_world()
        world.registry.cut_off = True
        async with present(world.presence, world.clock, lambda: False):
            await world.clock.sleep(3.0)
            world.registry.cut_off = False
            await world.clock.sleep(1.5)
            assert world.registry.entries["run"].pulse.number > 3, (
                "it is announced as soon as that is possible"
            )
            world.registry.cut_off = True
        return world

    assert run_simulated(main, seed=0).registry.entries["run"].ended is None


async def beaten(world: World, *links: LinkRow | None) -> None:
    """Beat every two seconds, with the link as it then is."""
    for link in links:
        world.bus.link = link
        await world.clock.sleep(2.0)
        await world.presence.beat()


def test_a_lost_bus_is_said_once_and_its_return_once() -> None:
    async def main() -> World:
        world, down = a_world(), replace(LINK, connected=False)
        await beaten(world, LINK, down, down, down, LINK, LINK)
        return world

    world = run_simulated(main, seed=0)
    assert world.witness.alerts == [f"lost {BUS_LOST}", f"regained {BUS_LOST}"]
    first, second = world.spectator.events
    assert first.startswith("alert: the bus can't be reached; training goes on")
    assert "event lines on this terminal are behind" in first
    assert second == "info: the bus is back after 6 s"


def test_a_server_without_memory_is_said_once_and_that_it_has_some_again_once() -> None:
    async def main() -> World:
        world, full = a_world(), replace(LINK, full=True)
        await beaten(world, LINK, full, full, LINK, LINK)
        return world

    world = run_simulated(main, seed=0)
    assert world.witness.alerts == [f"lost {BUS_FULL}", f"regained {BUS_FULL}"]
    first, second = world.spectator.events
    assert first.startswith("alert: the bus's server has no memory left")
    assert second == "info: the bus's server has memory again"


def test_what_the_server_could_never_answer_is_said_each_time() -> None:
    async def main() -> World:
        world = a_world()
        await beaten(
            world, LINK, replace(LINK, given_up=1), replace(LINK, given_up=1), replace(LINK, given_up=3)
        )
        return world

    said = f"{BUS_OVERTAXED}: {OVERTAXED_TEXT}"
    assert run_simulated(main, seed=0).witness.alerts == [said, said]


async def burdened(world: World, *causes: str) -> None:
    """Beat every two seconds, in conservative mode for that cause, or out of it."""
    for cause in causes:
        world.bus.cause = cause
        await world.clock.sleep(2.0)
        await world.presence.beat()


def test_a_bus_that_turns_messages_away_is_said_once_with_the_cause_and_its_end_once() -> None:
    async def main() -> World:
        world = a_world()
        await burdened(world, "", "its memory is full", "its memory is full", "another", "", "")
        return world

    world = run_simulated(main, seed=0)
    assert world.witness.alerts == [f"lost {BUS_CONSERVATIVE}", f"regained {BUS_CONSERVATIVE}"]
    assert world.spectator.events == [
        "alert: the bus turns messages away: its memory is full; the event log and observers miss them",
        "info: the bus takes all messages again after 6 s",
    ]


def test_in_memory_nobody_outside_misses_what_is_turned_away() -> None:
    async def main() -> World:
        world = a_world()
        world.bus.link = None
        await burdened(world, "its memory is full", "")
        return world

    assert run_simulated(main, seed=0).spectator.events == []


def test_the_last_word_keeps_the_comparison_and_how_far_the_run_came() -> None:
    async def main() -> World:
        world = a_world()
        control = ControlFacts(338, 10**9)
        world.witness.pulse = lambda: Pulse(1, control=control, epoch=7)  # type: ignore[method-assign]
        await world.presence.end()
        return world

    pulse = run_simulated(main, seed=0).registry.entries["run"].pulse
    assert (pulse.control, pulse.epoch) == (ControlFacts(338, 10**9), 7)


def test_refused_frames_raise_an_alert_for_each_reason() -> None:
    async def main() -> World:
        world = a_world()
        one, more = (
            replace(LINK, refused={"bad_mac": 1, "stale": 0}),
            replace(LINK, refused={"bad_mac": 7, "stale": 1}),
        )
        await beaten(world, LINK, one, one, more)
        return world

    names = [alert.split(": ")[0] for alert in run_simulated(main, seed=0).witness.alerts]
    assert names == [FRAMES_REFUSED, FRAMES_REFUSED]


def test_in_memory_there_is_no_link_and_nothing_is_said() -> None:
    async def main() -> World:
        world = a_world()
        await beaten(world, None, None)
        return world

    world = run_simulated(main, seed=0)
    assert world.witness.alerts == world.spectator.events == []
