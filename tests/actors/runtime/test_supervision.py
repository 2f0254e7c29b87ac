"""Failures: restarts, backoff, the intensity limit, escalation, poison messages, start and stop."""

import asyncio
import itertools
import logging
import random

import pytest

from actors.runtime import (
    Actor,
    ActorRestarting,
    ActorState,
    ActorStopped,
    AskCycle,
    AskFailed,
    Escalated,
    RestartPolicy,
    StartFailed,
    UnknownActor,
    handles,
)
from actors.runtime.topology import start_order
from contracts.request import Request
from tests.actors.runtime.sample import (
    Break,
    BreakAsk,
    Note,
    Notebook,
    NotebookMessage,
    Read,
    Rest,
    make_system,
    simulated,
)


class Optional(Notebook, Actor[NotebookMessage]):
    critical = False


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="actors.runtime.supervisor")


def test_a_failed_actor_restarts_with_what_was_kept_outside_and_goes_on() -> None:
    async def main() -> None:
        notes: list[int] = []
        life: list[str] = []
        system = make_system()
        ref = system.spawn("book", lambda: Notebook(notes, life))
        async with system:
            for message in (Note(1), Break(), Note(2)):
                await ref.tell(message)
            await asyncio.sleep(1)
            assert await ref.ask(Read(), deadline_s=1) == [1, 2]
            assert life == ["book started", "book stopped", "book started"]

    simulated(main)


def test_a_poison_message_is_a_dead_letter_and_is_not_tried_again() -> None:
    async def main() -> None:
        system = make_system()
        ref = system.spawn("book", Notebook)
        async with system:
            await ref.tell(Break("on purpose"))
            await asyncio.sleep(100)
            (letter,) = system.dead_letters.listed()
            assert (letter.actor, letter.message, letter.cause) == (
                "book",
                Break("on purpose"),
                "ValueError: on purpose",
            )
            assert system.snapshot().actor("book").restarts == 1

    simulated(main)


def test_pauses_double_between_their_bounds() -> None:
    policy = RestartPolicy()
    stream = random.Random(1)
    pauses = [policy.backoff_s(failures, stream) for failures in range(1, 40)]
    for failures, pause_s in enumerate(pauses[:6]):
        assert 0.1 * 2**failures <= pause_s <= 0.11 * 2**failures
    assert pauses[-1] == 5.0


def test_a_restarting_actor_answers_asks_with_an_error_and_keeps_the_rest() -> None:
    async def main() -> None:
        notes: list[int] = []
        system = make_system()
        ref = system.spawn("book", lambda: Notebook(notes))
        async with system:
            await ref.tell(Rest(1))
            await asyncio.sleep(0.5)
            await ref.tell(Break())
            await ref.tell(Note(1))
            queued = ref.ask(Read(), deadline_s=60)
            urgent = ref.ask(BreakAsk(), deadline_s=60)
            await asyncio.sleep(0.51)
            for reply in (queued, urgent):
                with pytest.raises(ActorRestarting, match="book can't answer: it failed and is restarting"):
                    await reply
            with pytest.raises(ActorRestarting):
                await ref.ask(Read(), deadline_s=60)
            await ref.tell(Note(2))
            await asyncio.sleep(1)
            assert await ref.ask(Read(), deadline_s=1) == [1, 2]

    simulated(main)


def test_the_asker_of_a_poison_request_is_answered() -> None:
    async def main() -> None:
        system = make_system()
        ref = system.spawn("book", Notebook)
        async with system:
            with pytest.raises(AskFailed):
                await ref.ask(BreakAsk(), deadline_s=60, urgent=True)
            assert system.snapshot().open_asks == 0

    simulated(main)


@pytest.mark.parametrize(("kind", "critical"), [(Notebook, True), (Optional, False)])
def test_a_fourth_failure_in_a_minute_escalates(kind: type[Notebook], critical: bool) -> None:
    async def main() -> None:
        escalations: list[Escalated] = []
        system = make_system(on_escalation=escalations.append)
        ref = system.spawn("book", kind)
        async with system:
            for _ in range(3):
                await ref.tell(Break())
                await asyncio.sleep(10)
            assert escalations == []
            assert system.snapshot().actor("book").restarts == 3
            await ref.tell(Break("once too often"))
            await ref.tell(Note(1))
            waiting = ref.ask(Read(), deadline_s=60)
            await asyncio.sleep(1)
            (escalated,) = escalations
            assert (escalated.actor, escalated.critical, escalated.restarts) == ("book", critical, 3)
            assert escalated.error == "ValueError: once too often"
            with pytest.raises(ActorStopped, match="book can't answer: it is"):
                await waiting
            with pytest.raises(ActorStopped, match="escalated"):
                await ref.ask(Read(), deadline_s=1)
            assert [letter.message for letter in system.dead_letters.listed()][-1] == Note(1)
        assert system.snapshot().actor("book").state is ActorState.ESCALATED

    simulated(main)


def test_failures_spread_over_time_never_escalate() -> None:
    async def main() -> None:
        escalations: list[Escalated] = []
        system = make_system(on_escalation=escalations.append)
        ref = system.spawn("book", Notebook)
        async with system:
            for _ in range(20):
                await ref.tell(Break())
                await asyncio.sleep(21)
            assert escalations == []
            assert system.snapshot().actor("book").restarts == 20

    simulated(main)


def test_a_handler_cancelled_from_within_is_a_failure_not_a_stop() -> None:
    class Cancelling(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    async def main() -> None:
        system = make_system()
        ref = system.spawn("cancelling", Cancelling)
        async with system:
            await ref.tell(Note(1))
            await asyncio.sleep(1)
            found = system.snapshot().actor("cancelling")
            assert (found.state, found.restarts) == (ActorState.RUNNING, 1)

    simulated(main)


# Start and stop ------------------------------------------------------------------------------------


class Front(Notebook, Actor[NotebookMessage]):
    asks = ("middle", "back")


class Middle(Notebook, Actor[NotebookMessage]):
    asks = ("back",)


def test_whoever_is_asked_starts_first_and_stops_last() -> None:
    async def main() -> None:
        life: list[str] = []
        system = make_system()
        system.spawn("front", lambda: Front(life=life))
        system.spawn("middle", lambda: Middle(life=life))
        system.spawn("back", lambda: Notebook(life=life))
        async with system:
            assert life == ["back started", "middle started", "front started"]
        assert life[3:] == ["front stopped", "middle stopped", "back stopped"]

    simulated(main)


def test_a_circle_of_asks_is_refused_by_name_and_nothing_starts() -> None:
    class Back(Notebook, Actor[NotebookMessage]):
        asks = ("front",)

    async def main() -> None:
        life: list[str] = []
        system = make_system()
        system.spawn("front", lambda: Front(life=life))
        system.spawn("middle", lambda: Middle(life=life))
        system.spawn("back", lambda: Back(life=life))
        with pytest.raises(AskCycle, match="in a circle: "):
            await system.start()
        assert life == []

    simulated(main)


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


def test_a_stopping_actor_handles_what_is_queued() -> None:
    async def main() -> None:
        notes: list[int] = []
        system = make_system()
        ref = system.spawn("book", lambda: Notebook(notes))
        async with system:
            await ref.tell(Rest(1))
            for n in range(10):
                await ref.tell(Note(n))
        assert notes == list(range(10))
        assert system.dead_letters.count == 0

    simulated(main)


def test_draining_is_bounded_and_what_is_left_is_answered_or_buried() -> None:
    async def main() -> None:
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

    simulated(main)


def test_the_drain_bound_is_for_all_actors_together() -> None:
    async def main() -> None:
        system = make_system()
        refs = [system.spawn(f"book {n}", Notebook) for n in range(4)]
        await system.start()
        for ref in refs:
            await ref.tell(Rest(1000))
        await asyncio.sleep(1)
        await system.stop(drain_s=2)
        assert asyncio.get_running_loop().time() == pytest.approx(3)

    simulated(main)


def test_an_on_stop_that_hangs_is_cancelled() -> None:
    class Clinging(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None: ...

        async def on_stop(self) -> None:
            await self.context.clock.sleep(1e6)

    async def main() -> None:
        system = make_system()
        system.spawn("clinging", Clinging)
        async with system:
            pass
        assert asyncio.get_running_loop().time() < 10
        assert len(asyncio.all_tasks()) == 1

    simulated(main)


def test_an_actor_that_will_not_be_cancelled_is_left_behind_in_bounded_time() -> None:
    class Deaf(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None:
            for _ in range(3):
                try:
                    await self.context.clock.sleep(100)
                except asyncio.CancelledError:
                    continue

    async def main() -> None:
        system = make_system()
        ref = system.spawn("deaf", Deaf)
        await system.start()
        await ref.tell(Note(1))
        await asyncio.sleep(1)
        await system.stop(drain_s=1)
        assert asyncio.get_running_loop().time() < 10
        await asyncio.sleep(1000)

    simulated(main)


def test_a_restarting_actor_stops_at_once() -> None:
    async def main() -> None:
        system = make_system()
        ref = system.spawn("book", Notebook, restarts=RestartPolicy(backoff_s_min=50, backoff_s_max=100))
        async with system:
            await ref.tell(Break())
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() == pytest.approx(1)

    simulated(main)


class Unstartable(Actor[Note]):
    @handles
    async def note(self, message: Note) -> None: ...

    async def on_start(self) -> None:
        raise OSError("no disk")


def test_a_critical_actor_that_cannot_start_stops_the_start() -> None:
    async def main() -> None:
        life: list[str] = []
        system = make_system()
        system.spawn("book", lambda: Notebook(life=life))
        system.spawn("broken", Unstartable)
        with pytest.raises(StartFailed, match="broken OSError: no disk"):
            await system.start()
        assert life == ["book started", "book stopped"]
        assert len(asyncio.all_tasks()) == 1

    simulated(main)


def test_an_optional_actor_that_cannot_start_is_done_without() -> None:
    class Spare(Unstartable, Actor[Note]):
        critical = False

    async def main() -> None:
        escalations: list[Escalated] = []
        system = make_system(on_escalation=escalations.append)
        system.spawn("spare", Spare)
        ref = system.spawn("book", Notebook)
        async with system:
            assert await ref.ask(Read(), deadline_s=1) == []
        assert [each.actor for each in escalations] == ["spare"]

    simulated(main)


def test_an_actor_that_takes_too_long_to_start_fails_the_start() -> None:
    class Slow(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None: ...

        async def on_start(self) -> None:
            await self.context.clock.sleep(1e6)

    async def main() -> None:
        system = make_system()
        system.spawn("slow", Slow)
        with pytest.raises(StartFailed, match="slow took more than 60 s"):
            await system.start()
        assert asyncio.get_running_loop().time() < 70

    simulated(main)


def test_a_name_is_given_once_and_only_before_the_start() -> None:
    async def main() -> None:
        system = make_system()
        system.spawn("book", Notebook)
        with pytest.raises(ValueError, match="the name is taken"):
            system.spawn("book", Notebook)
        async with system:
            with pytest.raises(ValueError, match="spawn before that"):
                system.spawn("late", Notebook)
            with pytest.raises(ValueError, match="a system starts once"):
                await system.start()

    simulated(main)


# A whole system, the same every time ---------------------------------------------------------------


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


def test_an_optional_reply_of_none_is_a_reply() -> None:
    class Empty(Request[None]):
        pass

    class Quiet(Actor[Empty]):
        @handles
        async def empty(self, message: Empty) -> None: ...

    async def main() -> None:
        system = make_system()
        ref = system.spawn("quiet", Quiet)
        async with system:
            reply: None = await ref.ask(Empty(), deadline_s=1)  # type: ignore[func-returns-value]
            assert reply is None

    simulated(main)
