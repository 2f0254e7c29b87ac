"""Telling and asking through a running system."""

import asyncio
import threading
from typing import Any

import pytest

from actors.runtime import (
    Actor,
    ActorState,
    ActorStopped,
    AskFailed,
    AskTimeout,
    MailboxFull,
    Overflow,
    UndeclaredAsk,
    UnknownMessage,
    handles,
)
from actors.runtime.ref import ActorRef
from contracts.request import Request
from tests.actors.runtime.sample import (
    Break,
    BreakAsk,
    Note,
    Notebook,
    NotebookMessage,
    Read,
    Rest,
    in_virtual_time,
    make_system,
    running,
)


class Small(Notebook, Actor[NotebookMessage]):
    mailbox_size = 4
    urgent_size = 2


class Dropping(Small):
    overflow = Overflow.DROP_OLDEST


class Refusing(Small):
    overflow = Overflow.REFUSE


@in_virtual_time
async def test_messages_are_handled_once_and_in_order() -> None:
    async with running(Small) as (_, ref):
        for n in range(100):
            await ref.tell(Note(n))
        assert await ref.ask(Read(), deadline_s=1) == list(range(100))


@in_virtual_time
async def test_messages_told_before_the_start_are_handled_after_it() -> None:
    system = make_system()
    ref = system.spawn("book", Notebook)
    await ref.tell(Note(1))
    async with system:
        assert await ref.ask(Read(), deadline_s=1) == [1]


@in_virtual_time
async def test_many_senders_wait_their_turn_and_lose_nothing() -> None:
    system = make_system()
    ref = system.spawn("book", Small)

    async def send(first: int) -> None:
        for n in range(first, first + 50):
            await ref.tell(Note(n))

    async with system:
        await asyncio.gather(*(send(100 * k) for k in range(8)))
        notes = await ref.ask(Read(), deadline_s=1)
        assert sorted(notes) == sorted(100 * k + n for k in range(8) for n in range(50))
        for k in range(8):
            mine = [n for n in notes if n // 100 == k]
            assert mine == sorted(mine)


@in_virtual_time
async def test_one_message_is_handled_at_a_time() -> None:
    async with running() as (_, ref):
        await ref.tell(Rest(5))
        await ref.tell(Note(1))
        before = asyncio.get_running_loop().time()
        assert await ref.ask(Read(), deadline_s=10) == [1]
        assert asyncio.get_running_loop().time() - before == pytest.approx(5)


@in_virtual_time
async def test_an_urgent_message_overtakes_a_full_normal_lane() -> None:
    async with running(Small) as (_, ref):
        await ref.tell(Rest(1))
        await asyncio.sleep(0.5)
        for n in range(4):
            await ref.tell(Note(n))
        with pytest.raises(MailboxFull):
            ref.tell_nowait(Note(4))
        await ref.tell(Note(99), urgent=True)
        assert await ref.ask(Read(), deadline_s=9, urgent=True) == [99]
        assert await ref.ask(Read(), deadline_s=9) == [99, 0, 1, 2, 3]


@in_virtual_time
async def test_an_urgent_message_sent_by_a_handler_is_next() -> None:
    class Alarm(Actor[Note]):
        def __init__(self) -> None:
            self.seen: list[int] = []

        @handles
        async def note(self, message: Note) -> None:
            self.seen.append(message.n)
            if message.n == 2:
                await self.context.me.tell(Note(99), urgent=True)

    system = make_system()
    alarm = Alarm()
    ref = system.spawn("alarm", lambda: alarm)
    async with system:
        for n in range(6):
            await ref.tell(Note(n))
        await asyncio.sleep(1)
    assert alarm.seen == [0, 1, 2, 99, 3, 4, 5]


@in_virtual_time
async def test_dropping_and_refusing_actors_are_counted() -> None:
    system = make_system()
    dropping = system.spawn("dropping", Dropping)
    refusing = system.spawn("refusing", Refusing)
    for n in range(6):
        await dropping.tell(Note(n))
    for n in range(4):
        await refusing.tell(Note(n))
    with pytest.raises(MailboxFull):
        await refusing.tell(Note(4))
    async with system:
        assert await dropping.ask(Read(), deadline_s=1) == [2, 3, 4, 5]
        assert await refusing.ask(Read(), deadline_s=1) == [0, 1, 2, 3]
        found = system.snapshot()
        assert found.actor("dropping").normal.dropped == 2
        assert found.actor("refusing").normal.refused == 1


@in_virtual_time
async def test_an_ask_that_is_dropped_is_answered() -> None:
    async with running(Dropping) as (_, ref):
        await ref.tell(Rest(1))
        await asyncio.sleep(0.5)
        reply = ref.ask(Read(), deadline_s=9)
        for n in range(4):
            await ref.tell(Note(n))
        with pytest.raises(MailboxFull):
            await reply


@in_virtual_time
async def test_an_ask_ends_at_its_deadline_and_is_not_run_later() -> None:
    async with running() as (system, ref):
        await ref.tell(Rest(5))
        before = asyncio.get_running_loop().time()
        with pytest.raises(AskTimeout, match="book did not answer BreakAsk within 1 s"):
            await ref.ask(BreakAsk(), deadline_s=1)
        assert asyncio.get_running_loop().time() - before == pytest.approx(1, abs=0.001)
        assert await ref.ask(Read(), deadline_s=9) == []
        book = system.snapshot().actor("book")
        assert (book.expired, book.failed, book.restarts) == (1, 0, 0)


@in_virtual_time
async def test_deadlines_of_many_asks_are_each_kept() -> None:
    system = make_system()
    ref = system.spawn("book", Notebook)
    ended: list[float] = []

    async def ask(deadline_s: float) -> None:
        with pytest.raises(AskTimeout):
            await ref.ask(Read(), deadline_s=deadline_s)
        ended.append(round(asyncio.get_running_loop().time(), 2))

    async with system:
        await ref.tell(Rest(50))
        await asyncio.sleep(1)
        await asyncio.gather(*(ask(deadline_s) for deadline_s in (9, 1, 5, 3, 7)))
        assert ended == [2, 4, 6, 8, 10]
        assert system.snapshot().open_asks == 0


@in_virtual_time
async def test_an_ask_without_time_left_is_not_sent() -> None:
    async with running() as (system, ref):
        with pytest.raises(AskTimeout):
            await ref.ask(Read(), deadline_s=0)
        assert system.snapshot().actor("book").handled == 0


@in_virtual_time
async def test_an_ask_waiting_for_a_slot_expires_and_never_arrives() -> None:
    async with running(Small) as (_, ref):
        await ref.tell(Rest(5))
        await asyncio.sleep(0.1)
        for n in range(4):
            await ref.tell(Note(n))
        with pytest.raises(AskTimeout):
            await ref.ask(BreakAsk(), deadline_s=1)
        assert await ref.ask(Read(), deadline_s=9) == [0, 1, 2, 3]


@in_virtual_time
async def test_a_handlers_error_reaches_the_asker_with_its_cause() -> None:
    async with running() as (_, ref):
        with pytest.raises(AskFailed, match="book failed on BreakAsk: ValueError: no answer") as caught:
            await ref.ask(BreakAsk(), deadline_s=1)
        assert isinstance(caught.value.__cause__, ValueError)


@in_virtual_time
async def test_an_ask_before_the_start_or_after_the_stop_says_so() -> None:
    system = make_system()
    ref = system.spawn("book", Notebook)
    with pytest.raises(ActorStopped, match="not started"):
        await ref.ask(Read(), deadline_s=1)
    async with system:
        pass
    with pytest.raises(ActorStopped):
        await ref.ask(Read(), deadline_s=1)


@in_virtual_time
async def test_a_tell_to_a_stopped_actor_is_a_dead_letter() -> None:
    async with running() as (system, ref):
        pass
    await ref.tell(Note(1))
    ref.tell_nowait(Note(2), urgent=True)
    assert [letter.message for letter in system.dead_letters.listed()] == [Note(1), Note(2)]
    assert system.dead_letters.listed()[0].cause == "the actor is stopped"


@in_virtual_time
async def test_a_message_nobody_handles_is_a_dead_letter_and_harms_nobody() -> None:
    class Unheard(Request[int]):
        pass

    system = make_system()
    ref = system.spawn("book", Notebook)
    anything: ActorRef[Any] = ref
    async with system:
        await anything.tell("hello")
        await anything.tell("hello", urgent=True)
        await ref.tell(Note(1))
        with pytest.raises(UnknownMessage, match="book has no handler for Unheard; it takes Note, "):
            await ref.ask(Unheard(), deadline_s=1)
        assert await ref.ask(Read(), deadline_s=1) == [1]
        book = system.snapshot().actor("book")
        assert (book.unhandled, book.handled, book.restarts) == (3, 2, 0)
        assert system.dead_letters.count == 3


@in_virtual_time
async def test_a_sender_that_waits_behind_a_message_nobody_handles_is_admitted() -> None:
    class Single(Small, Actor[NotebookMessage]):
        mailbox_size = 1

    system = make_system()
    ref = system.spawn("book", Single)
    anything: ActorRef[Any] = ref
    await anything.tell("hello")
    waiting = ref.tell(Note(1))
    async with system:
        await waiting
        assert await ref.ask(Read(), deadline_s=1) == [1]


@in_virtual_time
async def test_a_key_error_in_a_handler_is_a_failure_like_any_other() -> None:
    class Keyless(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None:
            raise KeyError(message.n)

    async with running(Keyless, "keyless") as (system, ref):
        await ref.tell(Note(1))
        await asyncio.sleep(1)
        found = system.snapshot().actor("keyless")
        assert (found.failed, found.unhandled, found.restarts) == (1, 0, 1)


@in_virtual_time
async def test_an_actor_asks_only_whom_it_declares() -> None:
    class Asker(Actor[Note]):
        asks = ("book",)
        target: "ActorRef[NotebookMessage]"

        def __init__(self) -> None:
            self.refused: list[str] = []

        @handles
        async def note(self, message: Note) -> None:
            try:
                await self.target.ask(Read(), deadline_s=1)
            except UndeclaredAsk as error:
                self.refused.append(str(error))

    system = make_system()
    asker = Asker()
    book, other = system.spawn("book", Notebook), system.spawn("other", Notebook)
    ref = system.spawn("asker", lambda: asker)
    async with system:
        for target in (book, other):
            asker.target = target
            await ref.tell(Note(1))
            await asyncio.sleep(1)
    assert asker.refused == [
        "asker can't ask other: it declares that it asks book; add 'other' to its `asks`"
    ]


def test_a_message_posted_from_a_thread_arrives() -> None:
    async def main() -> None:
        system = make_system()
        ref = system.spawn("book", Notebook)
        async with system:
            thread = threading.Thread(target=ref.post_from_thread, args=(Note(5),))
            thread.start()
            await asyncio.to_thread(thread.join)
            assert await ref.ask(Read(), deadline_s=10) == [5]
        with pytest.raises(ActorStopped):
            ref.post_from_thread(Note(6))

    asyncio.run(main())


@in_virtual_time
async def test_posts_from_threads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.runtime.desk.POSTED_MAX", 2)

    async with running() as (_, ref):
        ref.post_from_thread(Note(1))
        ref.post_from_thread(Note(2))
        with pytest.raises(MailboxFull):
            ref.post_from_thread(Note(3))
        await asyncio.sleep(1)
        assert await ref.ask(Read(), deadline_s=1) == [1, 2]


@in_virtual_time
async def test_the_snapshot_counts_what_happened() -> None:
    async with running() as (system, ref):
        for n in range(7):
            await ref.tell(Note(n))
        await ref.tell(Note(7), urgent=True)
        await asyncio.sleep(4)
        before = system.snapshot()
        book = before.actor("book")
        assert (book.state, book.handled, book.normal.high_water, book.urgent.high_water) == (
            ActorState.RUNNING,
            8,
            7,
            1,
        )
        assert book.rate_per_s == pytest.approx(2)
        assert (book.normal.depth, book.normal.capacity, before.open_asks) == (0, 1024, 0)
        await ref.tell(Break())
        await asyncio.sleep(1)
        after = system.snapshot()
        assert (after.actor("book").failed, after.actor("book").restarts, after.dead_letters) == (1, 1, 1)
        assert before.actor("book").failed == 0
    assert system.snapshot().actor("book").state is ActorState.STOPPED


@in_virtual_time
async def test_an_optional_reply_of_none_is_a_reply() -> None:
    class Empty(Request[None]):
        pass

    class Quiet(Actor[Empty]):
        @handles
        async def empty(self, message: Empty) -> None: ...

    async with running(Quiet, "quiet") as (_, ref):
        assert await ref.ask(Empty(), deadline_s=1) is None  # type: ignore[func-returns-value]
