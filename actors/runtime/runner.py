"""Handles an actor's messages, one at a time, a bounded slice before others get the loop."""

import asyncio
from collections.abc import Callable
from typing import Any

from actors.runtime.actor import Actor
from actors.runtime.asks import Ask
from actors.runtime.desk import Desk
from actors.runtime.errors import AskFailed, UnknownMessage
from actors.runtime.handlers import Handler
from actors.runtime.lanes import Urgent, unwrapped
from actors.runtime.mailbox import Mailbox
from actors.runtime.pace import CHUNK_MAX, Pace

SLICE_MESSAGES_MAX = 8192
"""Messages in one slice, however quick: in simulated time a slice never takes long."""
SLICE_S_MIN = 0.00025
"""Seconds of a slice when many are busy; shorter ones would be spent on changing places."""


class Crowd:
    """How many of a system's actors have more to do than one slice: they share the time of one.

    Without that a turn of the loop would take as many slices as there are busy actors, and what is urgent,
    which may need a turn or two to come through, would take as long.
    """

    __slots__ = ("busy",)

    def __init__(self) -> None:
        self.busy = 0

    def share(self, slice_s: float) -> float:
        """What each may take of a slice of this length."""
        return slice_s if self.busy < 2 else max(min(slice_s, SLICE_S_MIN), slice_s / self.busy)


class _Nothing:
    """Stands for the type of the message before the first."""


async def _nothing(actor: object, message: object) -> None:
    """Handles `_Nothing`, which is never sent."""


class Runner:
    """Serves one mailbox with one actor instance after another, and counts."""

    def __init__(
        self,
        mailbox: Mailbox,
        desk: Desk,
        crowd: Crowd,
        monotonic: Callable[[], float],
        bury: Callable[[object, str], None],
    ) -> None:
        self.mailbox = mailbox
        self.taken = 0
        self.failed = 0
        self.expired = 0
        self.unhandled = 0
        self._desk = desk
        self._crowd = crowd
        self._monotonic = monotonic
        self._bury = bury
        self._pace = Pace()
        self._table: dict[type, Handler] = {}

    @property
    def handled(self) -> int:
        """Messages handled to the end; behind by up to `CHUNK_MAX` while a handler waits."""
        return self.taken - self.failed - self.expired - self.unhandled

    async def serve(self, actor: Actor[Any]) -> None:
        """Handle messages until the mailbox is closed and drained, or a handler raises."""
        self._table = self._dispatch(type(actor))
        mailbox, crowd, busy = self.mailbox, self._crowd, 0
        try:
            while not mailbox.drained():
                await self._slice(actor)
                crowd.busy += bool(mailbox.queue) - busy
                busy = int(bool(mailbox.queue))
                await asyncio.sleep(0)  # others run; whoever answers at once is heard without going to sleep
                if not mailbox.queue:
                    crowd.busy -= busy
                    busy = 0
                    await mailbox.arrival()
        finally:
            crowd.busy -= busy

    async def _slice(self, actor: Actor[Any]) -> None:
        """Handle messages until there are none or the slice is used up.

        The clock is read once a chunk, whose length `Pace` tells. Quick messages say nothing about those of
        another type, so a chunk is of one type. All in one function: each call would be a message's cost.
        """
        mailbox, monotonic, waiting = self.mailbox, self._monotonic, self.mailbox.normal
        queue, popleft = mailbox.queue, mailbox.queue.popleft
        message: object = None
        table, pace = self._table, self._pace
        kind: type = _Nothing
        handler: Handler = _nothing
        chunk, steps, done = 1, range(1), 0
        most = self.taken + SLICE_MESSAGES_MAX
        slice_s = self._crowd.share(actor.slice_s)
        mailbox.note_depth()
        began = sure_until = monotonic()
        end = began + slice_s
        try:
            while True:
                for done in steps:
                    try:
                        message = popleft()
                    except IndexError:
                        self.taken += done
                        pace.was_slow(kind, monotonic() - began, slice_s)
                        return
                    if type(message) is not kind:
                        break
                    await handler(actor, message)
                else:
                    self.taken = taken = self.taken + chunk
                    if waiting.parked:
                        mailbox.settle()
                    now = monotonic()
                    if now + now - began < sure_until and taken < most:
                        began = now  # the longest chunk, and another one fits into what is left
                        continue
                    chunk = pace.after(kind, chunk, now - began, end - now, slice_s)
                    if now >= end or taken >= most:
                        return
                    steps, began = range(chunk), now
                    sure_until = end if chunk == CHUNK_MAX else now
                    continue
                self.taken += done
                queue.appendleft(message)
                now = monotonic()
                pace.was_slow(kind, now - began, slice_s)
                if now >= end:
                    return
                began = sure_until = now
                kind = type(message)
                handler = table.get(kind, self._take_unknown)
                chunk, steps, done = 1, range(1), 0
        except BaseException as error:
            self.taken += done + 1
            self._lost(unwrapped(message), error)
            raise

    # What the items of the mailbox are -------------------------------------------------------------

    def _dispatch(self, kind: type[Actor[Any]]) -> dict[type, Handler]:
        """Item type → what handles it, called with the actor and the item: no bound method a message."""
        handlers: dict[type, Handler] = {
            message: getattr(kind, name) for message, name in kind.handler_names.items()
        }
        return {**handlers, Ask: self._answer, Urgent: self._urgent}

    async def _urgent(self, actor: Actor[Any], urgent: Urgent) -> None:
        self.mailbox.urgent_taken()
        if type(urgent.item) in self._table:
            await self._table[type(urgent.item)](actor, urgent.item)
        else:
            self._unknown(urgent.item)

    async def _answer(self, actor: Actor[Any], ask: Ask[object]) -> None:
        if ask.done() or self._monotonic() >= ask.deadline:
            self.expired += 1
            ask.expire()
        elif type(ask.message) not in self._table:
            ask.fail(self._unknown(ask.message))
        else:
            reply = await self._table[type(ask.message)](actor, ask.message)
            if not ask.done():
                ask.set_result(reply)
        self._desk.answered(ask)

    async def _take_unknown(self, actor: Actor[Any], message: object) -> None:
        self._unknown(message)

    def _unknown(self, message: object) -> UnknownMessage:
        takes = tuple(kind.__name__ for kind in self._table if kind not in (Ask, Urgent))
        error = UnknownMessage(self.mailbox.actor, type(message).__name__, takes)
        self.unhandled += 1
        self._bury(message, str(error))
        return error

    def _lost(self, item: object, error: BaseException) -> None:
        """Answer or bury the one message whose handling ended in `error`; it is not tried again."""
        self.failed += 1
        if isinstance(error, asyncio.CancelledError) and cancelled_from_outside():
            self.mailbox.refuse(item, "the actor was stopped while it handled this")
            return
        if isinstance(item, Ask):
            self._desk.answered(item)
            item.fail(AskFailed(self.mailbox.actor, type(item.message).__name__, error))
            item = item.message
        self._bury(item, f"{type(error).__name__}: {error}")


def cancelled_from_outside() -> bool:
    """Whether the present task was cancelled itself, rather than something that it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
