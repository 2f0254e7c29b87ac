"""A whole system: who starts before whom, what stops when, and the same every time from one seed."""

import asyncio
import itertools
import logging
import random

import pytest

from actors.runtime import (
    Actor,
    ActorStopped,
    AskCycle,
    Escalated,
    RestartPolicy,
    StartFailed,
    UnknownActor,
    handles,
)
from actors.runtime.topology import start_order
from tests.actors.runtime.sample import (
    Break,
    Note,
    Notebook,
    NotebookMessage,
    Read,
    Rest,
    in_virtual_time,
    make_system,
    running,
    simulated,
)


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="actors.runtime.supervisor")


class Front(Notebook, Actor[NotebookMessage]):
    asks = ("middle", "back")


class Middle(Notebook, Actor[NotebookMessage]):
    asks = ("back",)


@in_virtual_time
async def test_whoever_is_asked_starts_first_and_stops_last() -> None:
    life: list[str] = []
    system = make_system()
    system.spawn("front", lambda: Front(life=life))
    system.spawn("middle", lambda: Middle(life=life))
    system.spawn("back", lambda: Notebook(life=life))
    async with system:
        assert life == ["back started", "middle started", "front started"]
    assert life[3:] == ["front stopped", "middle stopped", "back stopped"]


@in_virtual_time
async def test_a_circle_of_asks_is_refused_by_name_and_nothing_starts() -> None:
    class Back(Notebook, Actor[NotebookMessage]):
        asks = ("front",)

    life: list[str] = []
    system = make_system()
    system.spawn("front", lambda: Front(life=life))
    system.spawn("middle", lambda: Middle(life=life))
    system.spawn("back", lambda: Back(life=life))
    with pytest.raises(AskCycle, match="in a circle: "):
        await system.start()
    assert life == []


def test_the_named_circle_reads_as_who_asks_whom() -> None:
    with pytest.raises(AskCycle) as caught:
        start_order({"a": ("b",), "b": ("c",), "c": ("a",)})
    circle = str(caught.value).split(": ")[1].split("; ")[0].split(" → ")
    assert all(pair in {("a", "b"), ("b", "c"), ("c", "a")} for pair in itertools.pairwise(circle))
    assert circle[0] == circle[-1]


def test_an_actor_that_asks_itself_is_a_circle() -> None:
    with pytest.raises(AskCycle, match="a → a"):
        start_order({"a": ("a",)})


def test_asking_an_actor_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownActor, match="front asks back, which was never spawned"):
        start_order({"front": ("back",)})


@in_virtual_time
async def test_a_stopping_actor_handles_what_is_queued() -> None:
    notes: list[int] = []
    async with running(lambda: Notebook(notes)) as (system, ref):
        await ref.tell(Rest(1))
        for n in range(10):
            await ref.tell(Note(n))
    assert notes == list(range(10))
    assert system.dead_letters.count == 0


@in_virtual_time
async def test_draining_is_bounded_and_what_is_left_is_answered_or_buried() -> None:
    life: list[str] = []
    system = make_system()
    ref = system.spawn("book", lambda: Notebook(life=life))
    await system.start()
    await ref.tell(Rest(1000))
    await asyncio.sleep(1)
    await ref.tell(Note(1))
    reply = ref.ask(Read(), deadline_s=500)
    await system.stop(drain_s=2)
    assert asyncio.get_running_loop().time() == pytest.approx(3)
    with pytest.raises(ActorStopped):
        await reply
    assert [letter.message for letter in system.dead_letters.listed()] == [Rest(1000), Note(1)]
    assert life == ["book started", "book stopped"]
    assert len(asyncio.all_tasks()) == 1


@in_virtual_time
async def test_the_drain_bound_is_for_all_actors_together() -> None:
    system = make_system()
    refs = [system.spawn(f"book {n}", Notebook) for n in range(4)]
    await system.start()
    for ref in refs:
        await ref.tell(Rest(1000))
    await asyncio.sleep(1)
    await system.stop(drain_s=2)
    assert asyncio.get_running_loop().time() == pytest.approx(3)


@in_virtual_time
async def test_an_on_stop_that_hangs_is_cancelled() -> None:
    class Clinging(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None: ...

        async def on_stop(self) -> None:
            await self.context.clock.sleep(1e6)

    system = make_system()
    system.spawn("clinging", Clinging)
    async with system:
        pass
    assert asyncio.get_running_loop().time() < 10
    assert len(asyncio.all_tasks()) == 1


@in_virtual_time
async def test_an_actor_that_will_not_be_cancelled_is_left_behind_in_bounded_time() -> None:
    class Deaf(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None:
            for _ in range(3):
                try:
                    await self.context.clock.sleep(100)
                except asyncio.CancelledError:
                    continue

    system = make_system()
    ref = system.spawn("deaf", Deaf)
    await system.start()
    await ref.tell(Note(1))
    await asyncio.sleep(1)
    await system.stop(drain_s=1)
    assert asyncio.get_running_loop().time() < 10
    await asyncio.sleep(1000)


@in_virtual_time
async def test_a_restarting_actor_stops_at_once() -> None:
    system = make_system()
    ref = system.spawn("book", Notebook, restarts=RestartPolicy(backoff_s_min=50, backoff_s_max=100))
    async with system:
        await ref.tell(Break())
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() == pytest.approx(1)


class Unstartable(Actor[Note]):
    @handles
    async def note(self, message: Note) -> None: ...

    async def on_start(self) -> None:
        raise OSError("no disk")


@in_virtual_time
async def test_a_critical_actor_that_cannot_start_stops_the_start() -> None:
    life: list[str] = []
    system = make_system()
    system.spawn("book", lambda: Notebook(life=life))
    system.spawn("broken", Unstartable)
    with pytest.raises(StartFailed, match="broken OSError: no disk"):
        await system.start()
    assert life == ["book started", "book stopped"]
    assert len(asyncio.all_tasks()) == 1


@in_virtual_time
async def test_an_optional_actor_that_cannot_start_is_done_without() -> None:
    class Spare(Unstartable, Actor[Note]):
        critical = False

    escalations: list[Escalated] = []
    system = make_system(on_escalation=escalations.append)
    system.spawn("spare", Spare)
    ref = system.spawn("book", Notebook)
    async with system:
        assert await ref.ask(Read(), deadline_s=1) == []
    assert [each.actor for each in escalations] == ["spare"]


@in_virtual_time
async def test_an_actor_that_takes_too_long_to_start_fails_the_start() -> None:
    class Slow(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None: ...

        async def on_start(self) -> None:
            await self.context.clock.sleep(1e6)

    system = make_system()
    system.spawn("slow", Slow)
    with pytest.raises(StartFailed, match="slow took more than 60 s"):
        await system.start()
    assert asyncio.get_running_loop().time() < 70


@in_virtual_time
async def test_a_name_is_given_once_and_only_before_the_start() -> None:
    system = make_system()
    system.spawn("book", Notebook)
    with pytest.raises(ValueError, match="the name is taken"):
        system.spawn("book", Notebook)
    async with system:
        with pytest.raises(ValueError, match="spawn before that"):
            system.spawn("late", Notebook)
        with pytest.raises(ValueError, match="a system starts once"):
            await system.start()


def test_a_stormy_hour_is_the_same_every_time_from_one_seed() -> None:
    async def main() -> tuple[object, ...]:
        system = make_system(3)
        stream = random.Random(5)
        notes: list[int] = []
        ref = system.spawn("book", lambda: Notebook(notes))
        outcomes: list[str] = []

        async def send(name: int) -> None:
            for n in range(40):
                await asyncio.sleep(stream.random() * 100)
                messages: list[NotebookMessage] = [Note(n), Note(-n), Break(), Rest(3)]
                message = stream.choice(messages)
                await ref.tell(message, urgent=stream.random() < 0.2)
                try:
                    read = await ref.ask(Read(), deadline_s=1)
                    outcomes.append(f"{name} {len(read)}")
                except Exception as error:  # noqa: BLE001 - every outcome belongs into the record
                    outcomes.append(f"{name} {error}")

        async with system:
            await asyncio.gather(*(send(name) for name in range(5)))
        return tuple(notes), tuple(outcomes), system.snapshot()

    assert simulated(main, seed=4) == simulated(main, seed=4)
    assert simulated(main, seed=4) != simulated(main, seed=5)
