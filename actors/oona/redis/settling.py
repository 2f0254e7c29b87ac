"""Asks the server which of the retained messages all groups have settled: these need be kept no longer."""

import asyncio
from typing import Final

from actors.oona.redis.call import Ask
from actors.oona.redis.link import Link
from actors.oona.redis.outbox import Outbox
from actors.oona.redis.outgoing import Outgoing, Stage
from actors.oona.redis.topics import KnownTopic
from actors.oona.redis.wire import decoder

ASKED_MAX: Final = 512
"""Entries of a topic that the server is asked about at a time."""
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
        items = self._outbox.unsettled(topic.name, ASKED_MAX)
        if not items or topic.settling or not self._link.up:
            return
        asked = [(item, item.keys) for item in items if item.keys]  # without: a new server is being given it
        if not asked:
            return
        topic.settling = True
        ask = Ask(("settled", topic.name, [key for _, keys in asked for key in keys.split(" ")]), _BOOLS)
        ask.answer.add_done_callback(lambda answer: self._answered(topic, asked, answer))
        self._link.submit(ask)

    def _answered(
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
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        if settled > ASKED_MAX // 4:
            self.ask(topic)
