"""Failures: restarts, backoff, the intensity limit, escalation, poison messages."""

import asyncio
import logging
import random

import pytest

from actors.runtime import (
    Actor,
    ActorRestarting,
    ActorState,
    ActorStopped,
    AskFailed,
    Escalated,
    RestartPolicy,
    handles,
)
from tests.actors.runtime.sample import (
    Break,
    BreakAsk,
    Note,
    Notebook,
    NotebookMessage,
    Read,
    Rest,
    in_virtual_time,
    running,
)


class Optional(Notebook, Actor[NotebookMessage]):
    critical = False


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="actors.runtime.supervisor")


@in_virtual_time
async def test_a_failed_actor_restarts_with_what_was_kept_outside_and_goes_on() -> None:
    notes: list[int] = []
    life: list[str] = []
    async with running(lambda: Notebook(notes, life)) as (_, ref):
        for message in (Note(1), Break(), Note(2)):
            await ref.tell(message)
        await asyncio.sleep(1)
        assert await ref.ask(Read(), deadline_s=1) == [1, 2]
        assert life == ["book started", "book stopped", "book started"]


@in_virtual_time
async def test_a_poison_message_is_a_dead_letter_and_is_not_tried_again() -> None:
    async with running() as (system, ref):
        await ref.tell(Break("on purpose"))
        await asyncio.sleep(100)
        (letter,) = system.dead_letters.listed()
        assert (letter.actor, letter.message, letter.cause) == (
            "book",
            Break("on purpose"),
            "ValueError: on purpose",
        )
        assert system.snapshot().actor("book").restarts == 1


def test_pauses_double_between_their_bounds() -> None:
    policy = RestartPolicy()
    stream = random.Random(1)
    pauses = [policy.backoff_s(failures, stream) for failures in range(1, 40)]
    for failures, pause_s in enumerate(pauses[:6]):
        assert 0.1 * 2**failures <= pause_s <= 0.11 * 2**failures
    assert pauses[-1] == 5.0


@in_virtual_time
async def test_a_restarting_actor_answers_asks_with_an_error_and_keeps_the_rest() -> None:
    notes: list[int] = []
    async with running(lambda: Notebook(notes)) as (_, ref):
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


@in_virtual_time
async def test_the_asker_of_a_poison_request_is_answered() -> None:
    async with running() as (system, ref):
        with pytest.raises(AskFailed):
            await ref.ask(BreakAsk(), deadline_s=60, urgent=True)
        assert system.snapshot().open_asks == 0


@pytest.mark.parametrize(("kind", "critical"), [(Notebook, True), (Optional, False)])
@in_virtual_time
async def test_a_fourth_failure_in_a_minute_escalates(kind: type[Notebook], critical: bool) -> None:
    escalations: list[Escalated] = []
    async with running(kind, on_escalation=escalations.append) as (system, ref):
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


@in_virtual_time
async def test_failures_spread_over_time_never_escalate() -> None:
    escalations: list[Escalated] = []
    async with running(on_escalation=escalations.append) as (system, ref):
        for _ in range(20):
            await ref.tell(Break())
            await asyncio.sleep(21)
        assert escalations == []
        assert system.snapshot().actor("book").restarts == 20


@in_virtual_time
async def test_a_handler_cancelled_from_within_is_a_failure_not_a_stop() -> None:
    class Cancelling(Actor[Note]):
        @handles
        async def note(self, message: Note) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    async with running(Cancelling, "cancelling") as (system, ref):
        await ref.tell(Note(1))
        await asyncio.sleep(1)
        found = system.snapshot().actor("cancelling")
        assert (found.state, found.restarts) == (ActorState.RUNNING, 1)
