"""Observers in a simulated world: from the start, late, stopped, wanted elsewhere; the run never notices."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from actors.company import Company, Outcome
from actors.observer import HEARD, Observer, Place, find
from actors.oona.bus import Bus
from actors.oona.memory import MemoryBus
from actors.oona.open import OpenBus
from actors.oona.topics import run_topics
from actors.presence import Presence, present
from actors.runtime import Clock, LoopClock
from actors.runtime.simulation import run_simulated
from contracts import topics
from contracts.registry import ListedRun, Pulse, RunEntry
from contracts.report import Ending
from contracts.view import RunFacts
from esper.observer.belief import Unbelieved
from esper.observer.choice import NoSuchRun
from esper.report import screen
from tests.actors.fakes import SITES, FakeTrainer, Spectator, VirtualLane
from tests.actors.observing import MemoryRegistry, Remembering
from tests.actors.staging import fake_play, surroundings
from tests.actors.test_loop import CONFIG, blind
from tests.actors.test_presence import LINK, Linked
from tests.examples import few_seeds

EPOCHS = 60


@dataclass
class World:
    """A run that can be observed."""

    clock: Clock
    bus: Bus
    company: Company
    presence: Presence
    registry: MemoryRegistry
    spectator: Spectator
    observers: list[asyncio.Task[None]] = field(default_factory=list)

    def place(self, retelling: Remembering) -> Place:
        return Place(self.registry, retelling, self.clock, asyncio.Event())

    def observe(self, name: str, after_s: float = 0.0) -> Remembering:
        """Have it observed from `after_s` on; what is retold is in what this gives."""
        retelling = Remembering()

        async def observing() -> None:
            await self.clock.sleep(after_s)
            place = self.place(retelling)
            run = await find(place, None, waits=True)
            assert run is not None
            await Observer(run, self.bus, place, name).follow()

        self.observers.append(asyncio.create_task(observing()))
        return retelling

    async def perform(self) -> Outcome:
        """The run to its end, and its observers to theirs."""
        async with present(self.presence, self.clock, lambda: False):
            outcome = await self.company.perform()
            self.presence.over(Ending(), "it grew")
        await asyncio.gather(*self.observers)
        return outcome


def a_world(seed: int = 0) -> World:
    spectator = Spectator()
    script = fake_play(blind(seed), FakeTrainer(epochs=EPOCHS), CONFIG, seed, spectator)
    around = surroundings(seed, VirtualLane(0.1))
    company, bus, clock = Company(script, around), around.bus, around.clock

    async def retire(_: float) -> None: ...
    async def nobody() -> None: ...

    registry, entry = MemoryRegistry(), RunEntry("fake", script.facts, clock.wall_ns(), SITES)
    presence = Presence(entry, registry, company.witness, OpenBus(bus, retire, nobody), spectator, clock)
    return World(clock, bus, company, presence, registry, spectator)


def played(scene: Callable[[World], Coroutine[Any, Any, Any]], seed: int = 0) -> Any:
    async def main() -> Any:
        return await scene(a_world(seed))

    return run_simulated(main, seed=seed)


@few_seeds(2, 4)
def test_an_observer_sees_what_the_run_itself_shows(seed: int) -> None:
    async def scene(world: World) -> tuple[Remembering, World]:
        seen = world.observe("one")
        await world.perform()
        return seen, world

    seen, world = played(scene, seed)
    own, last = world.company.witness.live.view(), seen.views[-1]
    same = replace(own, phase="finished", elapsed_s=last.elapsed_s, bus_depth=last.bus_depth)
    assert [line.plain for line in screen.lines(last)] == [line.plain for line in screen.lines(same)]
    assert last.epochs == own.epochs
    assert [f"{event.kind}: {event.text}" for event in seen.events] == world.spectator.events
    assert [facts.epoch for facts in seen.epochs] == list(range(1, EPOCHS + 1))
    assert seen.epochs == world.company.witness.recorder.recorded.epochs
    assert seen.ended is not None
    assert seen.ended.closing == "it grew"
    assert seen.ended.pulse.epoch == EPOCHS
    assert not seen.missing
    assert {view.phase for view in seen.views[2:-1]} <= {"training", "probing", "finishing"}


@pytest.mark.parametrize("after_s", [0.5, pytest.param(2.0, marks=pytest.mark.slow), 5.9])
def test_who_comes_late_or_again_sees_the_same_as_who_was_there(after_s: float) -> None:
    async def scene(world: World) -> tuple[Remembering, Remembering]:
        early, late = world.observe("early"), world.observe("late", after_s)
        await world.perform()
        return early, late

    early, late = played(scene)
    assert late.views[-1] == early.views[-1]
    assert late.events == early.events
    assert late.epochs == early.epochs


def test_who_comes_when_it_is_over_sees_it_all_and_leaves() -> None:
    async def scene(world: World) -> tuple[Remembering, Remembering]:
        early, late = world.observe("early"), Remembering()
        await world.perform()
        run = await find(world.place(late), "fa", waits=True)
        assert run is not None
        await Observer(run, world.bus, world.place(late), "late").once()
        await Observer(run, world.bus, world.place(late), "later").follow()
        return early, late

    early, late = played(scene)
    once, *_, last = late.views
    assert last == early.views[-1]
    assert replace(once, events=()) == last
    assert not late.missing
    assert once.events == tuple(early.events[-20:])
    assert (late.epochs, late.events) == (early.epochs, early.events)


def test_an_observer_that_stops_reading_holds_nobody_up() -> None:
    async def scene(world: World) -> tuple[Outcome, float]:
        stopped = world.bus.subscribe(topics.ALL, "observer-x", "observer-x", lossy=True)
        await stopped.receive(1, wait_s=0)
        outcome = await world.perform()
        return outcome, world.clock.monotonic()

    async def alone(world: World) -> tuple[Outcome, float]:
        return await world.perform(), world.clock.monotonic()

    (held, held_s), (free, free_s) = played(scene), played(alone)
    assert held_s == free_s
    assert not held.bus.conservative_entered
    assert all(row.ledger.refused == row.ledger.shed == 0 for row in held.bus.published)
    nissas = [row for row in held.bus.groups if row.group == "nissa"]
    assert nissas == [row for row in free.bus.groups if row.group == "nissa"]


def test_an_observer_waits_for_a_run_and_says_so_once() -> None:
    async def scene(world: World) -> tuple[Remembering, float]:
        seen = world.observe("one")
        await world.clock.sleep(7.0)
        notes = list(seen.notes)
        assert seen.started is None
        await world.perform()
        assert seen.notes == notes
        return seen, world.clock.monotonic()

    seen, _ = played(scene)
    assert seen.notes == ["no run lives there now; waiting for one to begin"]
    assert seen.epochs[0].epoch == 1


def test_who_waits_after_a_run_has_ended_is_told_how_to_see_the_newest() -> None:
    async def scene(world: World) -> Remembering:
        await world.perform()
        facts = world.registry.entries["fake"].facts
        world.registry.entries["killed"] = RunEntry("killed", facts, 0)
        world.registry.dead.add("killed")
        retelling = Remembering()
        place = world.place(retelling)
        finding = asyncio.create_task(find(place, None, waits=True))
        await world.clock.sleep(1.0)
        place.stop.set()
        assert await finding is None
        return retelling

    assert played(scene).notes == [
        "no run lives there now; waiting for one to begin; --run fake shows the newest that has ended"
    ]


@pytest.mark.parametrize(("epoch", "missing"), [(0, False), (7, True)])
def test_a_picture_that_ends_before_the_run_did_is_known_to(epoch: int, missing: bool) -> None:
    async def main() -> Remembering:
        clock = LoopClock(asyncio.get_running_loop())
        entry = RunEntry("run", RunFacts("w", "p", 0, "runs"), 0, pulse=Pulse(9, epoch=epoch), ended=Ending())
        retelling, _, observer = alone(MemoryRegistry({"run": entry}), MemoryBus(run_topics(), clock), clock)
        await observer.once()
        assert retelling.missing == missing
        await observer.follow()
        return retelling

    assert run_simulated(main, seed=0).missing == missing


def test_a_run_that_lives_without_new_epochs_is_said_to_once() -> None:
    async def main() -> Remembering:
        clock = LoopClock(asyncio.get_running_loop())
        entry = RunEntry("run", RunFacts("w", "p", 0, "runs"), 0, pulse=Pulse(1, "training"))
        registry = MemoryRegistry({"run": entry})
        retelling, place, observer = alone(registry, MemoryBus(run_topics(), clock), clock)
        following = asyncio.create_task(observer.follow())
        for number in range(2, 150):
            registry.entries["run"] = replace(entry, pulse=Pulse(number, "training"))
            await clock.sleep(1.0)
        place.stop.set()
        await following
        return retelling

    assert run_simulated(main, seed=0).notes == ["no new state for a minute"]


def test_an_observer_that_shall_leave_or_is_not_heard_leaves_the_run_alone() -> None:
    async def scene(world: World) -> Outcome:
        places = [world.place(Remembering()), world.place(Remembering())]

        async def observing(place: Place) -> None:
            run = await find(place, None, waits=True)
            assert run is not None
            await Observer(run, world.bus, place, f"observer-{id(place)}").follow()

        tasks = [asyncio.create_task(observing(place)) for place in places]
        performing = asyncio.create_task(world.perform())
        await world.clock.sleep(2.0)
        places[0].stop.set()
        places[1].retelling.unheard = True  # type: ignore[misc]
        await asyncio.wait(tasks, timeout=1.0)
        assert all(task.done() and task.exception() is None for task in tasks)
        outcome = await performing
        assert {row.group for row in outcome.bus.groups} == {"nissa", "warden"}, "theirs have gone"
        return outcome

    assert played(scene).conclusion.final is not None


def test_waiting_for_a_run_ends_when_it_shall() -> None:
    async def scene(world: World) -> ListedRun | None:
        place = world.place(Remembering())
        finding = asyncio.create_task(find(place, None, waits=True))
        await world.clock.sleep(3.0)
        place.stop.set()
        return await finding

    assert played(scene) is None


def test_a_picture_is_not_waited_for_and_the_last_run_will_do() -> None:
    async def scene(world: World) -> None:
        place = world.place(Remembering())
        with pytest.raises(NoSuchRun, match="start one"):
            await find(place, None, waits=False)
        await world.perform()
        run = await find(place, None, waits=False)
        assert run is not None
        assert run.entry.ended == Ending()

    played(scene)


def alone(registry: MemoryRegistry, bus: MemoryBus, clock: LoopClock) -> tuple[Remembering, Place, Observer]:
    """An observer of a run of which only the registry's entry is there."""
    retelling = Remembering()
    place = Place(registry, retelling, clock, asyncio.Event())
    run = ListedRun(registry.entries["run"], alive=True)
    return retelling, place, Observer(run, bus, place, "one")


def test_silence_is_said_and_shown_until_the_run_lives_again() -> None:
    async def main() -> Remembering:
        clock = LoopClock(asyncio.get_running_loop())
        entry = RunEntry("run", RunFacts("w", "p", 0, "runs"), 0, pulse=Pulse(1, "training"))
        registry = MemoryRegistry({"run": entry})
        retelling, _, observer = alone(registry, MemoryBus(run_topics(), clock), clock)
        following = asyncio.create_task(observer.follow())
        await clock.sleep(10.0)
        assert retelling.views[-1].phase == "silent"
        registry.entries["run"] = replace(entry, pulse=Pulse(2, "training"))
        await clock.sleep(2.0)
        assert retelling.views[-1].phase == "training"
        registry.cut_off = True
        await clock.sleep(20.0)
        assert retelling.views[-1].phase == "training", "who can't look does not know"
        registry.cut_off = False
        registry.entries["run"] = replace(entry, pulse=Pulse(3), ended=Ending("interrupted"))
        await following
        return retelling

    seen = run_simulated(main, seed=0)
    first, second, third, fourth = seen.notes
    assert "no sign of life for" in first
    assert "again" in second
    assert third == "the registry can't be reached; waiting for it to come back"
    assert fourth == "the server is back"
    assert seen.views[-1].phase == "interrupted"


@few_seeds(2, 4)
def test_what_is_said_of_the_server_stands_between_what_happened_before_and_after(seed: int) -> None:
    async def scene(world: World) -> Remembering:
        seen = world.observe("one")

        async def away() -> None:
            for _ in range(3):
                await world.clock.sleep(2.3)
                world.registry.cut_off = True
                await world.clock.sleep(2.3)
                world.registry.cut_off = False

        gone = asyncio.create_task(away())
        await world.perform()
        await gone
        return seen

    seen = played(scene, seed)
    noted = [each for note, each in zip(seen.notes, seen.noted, strict=True) if "server is back" in note]
    assert noted
    for epoch, told, newest in noted:
        assert epoch is not None
        assert newest <= epoch
        before, after = seen.events[:told], seen.events[told:]
        assert max((event.epoch for event in before), default=0) <= epoch
        assert min((event.epoch for event in after), default=epoch) >= epoch
    assert noted[-1][2], "the run had begun"


@pytest.mark.parametrize(("ended", "phase"), [(None, "silent"), (Ending(), "finished")])
def test_a_run_that_is_gone_is_shown_silent_unless_it_has_ended(ended: Ending | None, phase: str) -> None:
    async def main() -> Remembering:
        clock = LoopClock(asyncio.get_running_loop())
        entry = RunEntry("run", RunFacts("w", "p", 0, "runs"), 0, pulse=Pulse(9, "probing"), ended=ended)
        retelling = Remembering()
        place = Place(MemoryRegistry({"run": entry}), retelling, clock, asyncio.Event())
        await Observer(ListedRun(entry, alive=False), MemoryBus(run_topics(), clock), place, "one").once()
        return retelling

    assert [view.phase for view in run_simulated(main, seed=0).views] == [phase]


def test_after_a_new_connection_the_history_is_read_again() -> None:
    async def main() -> Remembering:
        clock = LoopClock(asyncio.get_running_loop())
        registry = MemoryRegistry({"run": RunEntry("run", RunFacts("w", "p", 0, "runs"), 0)})
        bus = Linked(run_topics(), clock)
        retelling, _, observer = alone(registry, bus, clock)
        asked: list[str] = []
        history = bus.history

        async def counted(topic: str) -> Any:
            asked.append(topic)
            return await history(topic)

        bus.history = counted  # type: ignore[method-assign]
        following = asyncio.create_task(observer.follow())
        await clock.sleep(2.0)
        assert asked == list(HEARD)
        bus.link = replace(LINK, reconnects=1)
        await clock.sleep(2.0)
        assert asked == list(HEARD) * 2
        await clock.sleep(2.0)
        assert asked == list(HEARD) * 2
        registry.entries["run"] = replace(registry.entries["run"], ended=Ending())
        await following
        return retelling

    run_simulated(main, seed=0)


def test_messages_that_can_not_be_believed_end_it_with_the_reason() -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        registry = MemoryRegistry({"run": RunEntry("run", RunFacts("w", "p", 0, "runs"), 0)})
        bus = Linked(run_topics(), clock)
        _, _, observer = alone(registry, bus, clock)
        following = asyncio.create_task(observer.follow())
        await clock.sleep(1.0)
        assert not following.done()
        bus.link = replace(LINK, refused={"bad_mac": 1})
        with pytest.raises(Unbelieved, match="another secret"):
            await following

    run_simulated(main, seed=0)
