"""Asks the server which of the retained messages all groups have settled: these need be kept no longer.

The server is asked for its oldest entries: all that came before them is settled. When that sets nothing free,
for one old message may stay unsettled for long, it is asked for messages by name.
"""

import asyncio
from collections.abc import Sequence
from itertools import takewhile
from typing import Final, TypeAlias

from actors.oona.redis.call import Ask
from actors.oona.redis.link import Link
from actors.oona.redis.outbox import Outbox
from actors.oona.redis.outgoing import Outgoing, Stage
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
        oldest = [_id_of(each) if isinstance(each, str) else None for each in answer.result()[0]]
        settled = 0
        for urgent in (True, False):
            lane = (item for item in items if item.urgent is urgent)
            for item in takewhile(lambda each: _is_older(each, oldest), lane):
                self._outbox.done(item)
                settled += 1
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
            if item.stage is not Stage.RETAINED or item.keys != keys:
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


def _is_older(item: Outgoing, oldest: Sequence[EntryId | None]) -> bool:
    """Whether all entries of a retained message came before the oldest of their ranks."""
    if item.stage is not Stage.RETAINED or not item.keys:
        return False
    for entry in item.keys.split(" "):
        first = oldest[int(entry[0])]
        if first is not None and _id_of(entry[2:]) >= first:
            return False
    return True


def _id_of(text: str) -> EntryId:
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number)
