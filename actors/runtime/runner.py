"""Handles an actor's messages, one at a time, a bounded slice before others get the loop."""

import asyncio
from collections.abc import Callable
from itertools import repeat
from typing import Any

from actors.runtime.actor import Actor
from actors.runtime.asks import Ask
from actors.runtime.desk import Desk
from actors.runtime.errors import ActorStopped, AskFailed, UnknownMessage
from actors.runtime.handlers import Handler
from actors.runtime.mailbox import Mailbox, Urgent, unwrapped

CHUNK_MAX = 32
"""Messages handled between two looks at the clock, once a slice has shown that they are quick."""
SLICE_MESSAGES_MAX = 8192
"""Messages in one slice, however quick: in simulated time a slice never takes long."""


class Dispatch(dict[type, Handler]):
    """Item type → what handles it. A type that nobody handles falls to `unknown`."""

    def __init__(self, handlers: dict[type, Handler], unknown: Handler) -> None:
        super().__init__(handlers)
        self._unknown = unknown

    def __missing__(self, kind: type) -> Handler:
        return self._unknown


class Runner:
    """Serves one mailbox with one actor instance after another, and counts."""

    def __init__(
        self, mailbox: Mailbox, desk: Desk, monotonic: Callable[[], float], bury: Callable[[object, str], None]
    ) -> None:
        self.mailbox = mailbox
        self.taken = 0
        self.failed = 0
        self.expired = 0
        self.unknown = 0
        self._desk = desk
        self._monotonic = monotonic
        self._bury = bury
        self._table: Dispatch

    @property
    def handled(self) -> int:
        """Messages handled to the end; behind by up to `CHUNK_MAX` while a handler waits."""
        return self.taken - self.failed - self.expired - self.unknown

    async def serve(self, actor: Actor[Any]) -> None:
        """Handle messages until the mailbox is closed and drained. A handler's error ends it too, see `_lost`."""
        self._table = self._dispatch(actor)
        while not self.mailbox.drained():
            if await self._slice(actor.slice_s):
                await asyncio.sleep(0)
            else:
                await self.mailbox.arrival()

    async def _slice(self, slice_s: float) -> bool:
        """Handle messages until there are none (False) or the slice is used up (True).

        The clock is read once a chunk. Each slice starts with a chunk of one message and doubles it
        while twice the last chunk fits into what is left, so that slow handlers never meet a long
        chunk unless they turn slow within one slice.
        """
        mailbox, table, monotonic = self.mailbox, self._table, self._monotonic
        popleft = mailbox.queue.popleft
        began = monotonic()
        end = began + slice_s
        most = self.taken + SLICE_MESSAGES_MAX
        chunk = 1
        while True:
            mailbox.settle()
            if not await self._chunk(popleft, table, chunk):
                pass
            now = monotonic()
            left, took, began = end - now, now - began, now
            if left <= 0 or self.taken >= most:
                return True
            if 2 * took <= left:
                chunk = min(2 * chunk, CHUNK_MAX)
            elif took > left:
                chunk = max(1, int(chunk * left / took))
