"""The operator's hand in a run's dead letters: lists, shows, queues again and drops them, from any process.

It joins no group and takes nothing, so nobody who consumes notices. It believes a run only as an observer
does: with a secret, what it finds has to be signed with one that it holds.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from actors.oona.bus import Bus, DeadLetter, DeadLetters
from actors.oona.errors import BusError, UncertainError, UnreachableError
from actors.oona.open import KEPT_S, Door, OpenBus, check, open_bus, open_registry
from actors.oona.redis.inbox import Unreadable
from actors.runtime.clock import LoopClock
from contracts import topics
from contracts.letters import (
    LetterFacts,
    LetterInspected,
    LetterKept,
    LetterOrder,
    LettersAnswer,
    LettersHandled,
    LettersListed,
    LetterWord,
)
from contracts.registry import RunEntry
from esper.observer.belief import SET_SECRETS, Belief, Unbelieved
from esper.observer.choice import NoSuchRun, chosen_or_newest

LIST: Final = "list"
_TAKES: Final[Mapping[LetterWord, str]] = {
    "list": "no letters, but --topic and --group",
    "inspect": "the id of one letter, as list shows it",
    "replay": "the ids of letters, as list shows them, or --all, with or without --topic and --group",
    "drop": "the ids of letters, as list shows them, or --all, with or without --topic and --group",
}


class NotHandled(Exception):
    """Nothing was done; the message says why, and what would help."""


def order_of(
    what: LetterWord,
    ids: Sequence[str] = (),
    every: bool = False,
    topic: str | None = None,
    group: str | None = None,
) -> LetterOrder:
    """What the command line says.

    Raises:
        NotHandled: it says too little or too much.
    """
    narrowed = topic is not None or group is not None
    fits = {
        "list": not ids and not every,
        "inspect": len(ids) == 1 and not every and not narrowed,
        "replay": bool(ids) != every and (every or not narrowed),
        "drop": bool(ids) != every and (every or not narrowed),
    }
    if not fits[what]:
        raise NotHandled(f"letters {what} takes {_TAKES[what]}")
    return LetterOrder(what=what, letter_ids=tuple(dict.fromkeys(ids)), every=every, topic=topic, group=group)


def handle_letters(
    way: Door, wanted: str | None, order: LetterOrder, note: Callable[[str], None]
) -> LettersAnswer:
    """Find the run and do what is ordered; `note` hears what the operator should know beside the answer.

    Raises:
        NotHandled: there is no such run, its messages can't be believed, the server can't be had, or a letter
            or topic is not there. Nothing was done.
    """
    try:
        return asyncio.run(_handle(way, wanted, order, note))
    except (NoSuchRun, Unbelieved, BusError) as error:
        raise NotHandled(str(error)) from None


async def _handle(
    way: Door, wanted: str | None, order: LetterOrder, note: Callable[[str], None]
) -> LettersAnswer:
    await check(way)
    async with open_registry(way) as registry:
        assert registry is not None, "whoever handles letters gave the address of a server"
        run = chosen_or_newest(await registry.runs(), wanted)
    _check_secret(run.entry, way, order, note)
    async with open_bus(way, run.entry.run_id, LoopClock(asyncio.get_running_loop())) as opened:
        try:
            await _believe(opened.bus, note)
            return await _carried_out(run.entry.run_id, opened.bus.dead_letters, order)
        except (BusError, Unbelieved):
            raise
        except ValueError as error:  # whoever reaches the server can write there
            raise NotHandled(f"what the server keeps of this run makes no sense: {error}") from None
        finally:
            await _let_go(run.entry, opened)


def _check_secret(entry: RunEntry, way: Door, order: LetterOrder, note: Callable[[str], None]) -> None:
    """
    Raises:
        NotHandled: what is replayed has to be signed anew, and nothing can be signed here.
    """
    if not entry.signed or way.signs:
        return
    if order.what == "replay":
        raise NotHandled(f"the run signs its messages, and what is replayed is signed anew: {SET_SECRETS}")
    note(f"the run signs its messages; nobody checks that here: {SET_SECRETS}")


async def _believe(bus: Bus, note: Callable[[str], None]) -> None:
    """See from what the run has said that its secret is ours; a letter may well be what it refused.

    Raises:
        Unbelieved: nothing but refusals.
    """
    belief = Belief()
    for topic in topics.ALL:
        belief.believed += len(await bus.history(topic))
        if belief.believed:
            break
    link = bus.metrics().link
    doubt = belief.judge(link.refused) if link is not None else ""
    if doubt:
        note(doubt)


async def _let_go(entry: RunEntry, opened: OpenBus) -> None:
    """Looking may have made keys; nobody else would let those of a run that has ended expire."""
    if entry.ended is not None:
        await opened.retire(KEPT_S)


async def _carried_out(run_id: str, letters: DeadLetters, order: LetterOrder) -> LettersAnswer:
    match order.what:
        case "list":
            found = await letters.list(order.topic, order.group)
            return LettersListed(run_id, tuple(map(facts, found)))
        case "inspect":
            (letter_id,) = order.letter_ids
            letter = await letters.inspect(letter_id)
            message = None if isinstance(letter.message, Unreadable) else spelled(letter.message)
            return LetterInspected(run_id, facts(letter), message)
        case "replay" | "drop":
            return await _handled(run_id, letters, order)


async def _handled(run_id: str, letters: DeadLetters, order: LetterOrder) -> LettersHandled:
    """One letter after the other, once all of them are known to be there; a server that goes away ends it."""
    do = letters.replay if order.what == "replay" else letters.drop
    done: list[str] = []
    kept: list[LetterKept] = []
    gone = ""
    for letter_id in await _meant(letters, order):
        if gone:
            kept.append(LetterKept(letter_id, gone))
            continue
        try:
            await do(letter_id)
        except BusError as error:
            kept.append(LetterKept(letter_id, str(error)))
            gone = str(error) if isinstance(error, UnreachableError | UncertainError) else ""
        else:
            done.append(letter_id)
    return LettersHandled(run_id, order.what, tuple(done), tuple(kept))


async def _meant(letters: DeadLetters, order: LetterOrder) -> Sequence[str]:
    """Raises UnknownLetterError, UnknownTopicError."""
    if order.every:
        return [letter.letter_id for letter in await letters.list(order.topic, order.group)]
    for letter_id in order.letter_ids:
        await letters.inspect(letter_id)
    return order.letter_ids


def facts(letter: DeadLetter) -> LetterFacts:
    """What is shown of a letter in a list."""
    unreadable = letter.message.error if isinstance(letter.message, Unreadable) else ""
    return LetterFacts(
        letter_id=letter.letter_id,
        topic=letter.topic,
        group=letter.group,
        event_id=letter.event_id,
        priority=letter.priority.name.lower(),
        attempts=letter.attempts,
        error=letter.last_error,
        died_s=letter.died_s,
        kind="" if unreadable else type(letter.message).__name__,
        unreadable=unreadable,
    )


def spelled(value: object) -> object:
    """Plain data: structs as dicts, enums by their names, bytes by their number."""
    match value:
        case Enum():
            return value.name
        case bytes():
            return f"{len(value)} bytes"
        case msgspec.Struct():
            return {name: spelled(getattr(value, name)) for name in value.__struct_fields__}
        case dict():
            return {str(key): spelled(each) for key, each in value.items()}
        case list() | tuple():
            return [spelled(each) for each in value]
        case _:
            return value
