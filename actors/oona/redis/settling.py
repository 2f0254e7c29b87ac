"""Asks the server which of the retained messages all groups have settled: these need be kept no longer.

The server is asked for its oldest entries: all that came before them is settled. When that sets nothing free,
for one old message may stay unsettled for long, it is asked for messages by name.
"""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Final, TypeAlias

from actors.oona.redis.call import Ask
from actors.oona.redis.link import Link
from actors.oona.redis.outbox import Outbox
from actors.oona.redis.outgoing import RETAINED, Outgoing
from actors.oona.redis.topics import KnownTopic
from actors.oona.redis.wire import decoder

EntryId: TypeAlias = tuple[int, int]
"""Of a stream: milliseconds and a number within them."""

COMPARED_MAX: Final = 2_048
"""Messages of a topic that are compared with the oldest entries at a time."""
NAMED_MAX: Final = 512
"""Messages of a topic that the server is asked about by name at a time."""
MANY: Final = 128
"""So many messages are worth another question at once."""
_OLDEST: Final = decoder(list[str | bool])
_BOOLS: Final = decoder(list[bool])


class Settling:
    """Lets go of what is settled."""

    def __init__(self, outbox: Outbox, link: Link) -> None:
        self._outbox = outbox
        self._link = link
        self._waiting: list[asyncio.Future[None]] = []

    async def some(self, wait_s: float) -> None:
        """Until an answer came, or that many seconds have passed."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(answered)
        await asyncio.wait({answered}, timeout=wait_s)

    def ask(self, topic: KnownTopic) -> None:
        """Unless there is nothing to ask, or no answer to the last question yet."""
        if topic.settling or not self._link.up:
            return
        items = self._outbox.unsettled(topic.name, NAMED_MAX if topic.stuck else COMPARED_MAX)
        if items and topic.stuck:
            self._ask_by_name(topic, items)
        elif items:
            self._ask_by_age(topic, items)

    def _ask_by_age(self, topic: KnownTopic, items: list[Outgoing]) -> None:
        topic.settling = True
        ask = Ask(("oldest", topic.name), _OLDEST)
        ask.answer.add_done_callback(lambda answer: self._told_oldest(topic, items, answer))
        self._link.submit(ask)

    def _told_oldest(
        self,
        topic: KnownTopic,
        items: list[Outgoing],
        answer: "asyncio.Future[tuple[list[str | bool], list[bytes]]]",
    ) -> None:
        topic.settling = False
        if answer.cancelled() or answer.exception() is not None:
            return
        firsts = {
            str(rank): First(rank, each) if isinstance(each, str) else None
            for rank, each in enumerate(answer.result()[0])
        }
        settled = 0
        for urgent, lane in groupby(items, key=attrgetter("urgent")):
            older = _older(lane, firsts)
            self._outbox.settled(topic.name, urgent, older)
            settled += len(older)
        topic.stuck = not settled
        self._tell()
        if settled > MANY or (topic.stuck and len(items) > MANY):
            self.ask(topic)

    def _ask_by_name(self, topic: KnownTopic, items: list[Outgoing]) -> None:
        asked = [(item, item.keys) for item in items if item.keys]  # without: a new server is being given it
        if not asked:
            return
        topic.settling = True
        ask = Ask(("settled", topic.name, [key for _, keys in asked for key in keys.split(" ")]), _BOOLS)
        ask.answer.add_done_callback(lambda answer: self._told_by_name(topic, asked, answer))
        self._link.submit(ask)

    def _told_by_name(
        self,
        topic: KnownTopic,
        asked: list[tuple[Outgoing, str]],
        answer: "asyncio.Future[tuple[list[bool], list[bytes]]]",
    ) -> None:
        topic.settling = False
        if answer.cancelled() or answer.exception() is not None:
            return
        told = iter(answer.result()[0])
        settled = 0
        for item, keys in asked:
            each = [next(told) for _ in keys.split(" ")]
            if item.stage is not RETAINED or item.keys != keys:
                continue  # a new server has been given it, which knows nothing of these entries
            if all(each):
                settled += 1
                self._outbox.done(item)
            else:
                self._outbox.still_unsettled(item)
        topic.stuck = settled > MANY
        self._tell()
        if topic.stuck:
            self.ask(topic)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class First:
    """The oldest entry of a rank."""

    __slots__ = ("_dash", "_id", "_moment")

    def __init__(self, rank: int, text: str) -> None:
        self._moment = f"{rank}:{text.partition('-')[0]}-"
        self._dash = len(self._moment) - 1
        self._id = _id_of(text)

    def comes_after(self, entry: str) -> bool:
        """Texts whose milliseconds have as many digits compare as these do, unless they are the same."""
        if entry < self._moment and entry.find("-") == self._dash:
            return True
        return _id_of(entry[2:]) < self._id


def _older(items: Iterable[Outgoing], firsts: Mapping[str, First | None]) -> list[Outgoing]:
    """Those up to the first that is not."""
    older: list[Outgoing] = []
    for item in items:
        if not _is_older(item, firsts):
            break
        older.append(item)
    return older


def _is_older(item: Outgoing, firsts: Mapping[str, First | None]) -> bool:
    """Whether all entries of a retained message came before the first of their ranks."""
    if item.stage is not RETAINED or not item.keys:
        return False
    for entry in item.keys.split(" "):
        first = firsts[entry[0]]
        if first is not None and not first.comes_after(entry):
            return False
    return True


def _id_of(text: str) -> EntryId:
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number)
