"""A bounded mailbox with two lanes: urgent messages overtake normal ones, and neither grows without bound.

Both lanes live in one deque, urgent ones in front, so that whoever drains it only ever pops from the
left:

    left ─▶ [urgent, urgent │ normal, normal, normal, …] ◀─ a tell appends here
             urgent_waiting    up to the normal lane's capacity

Rule: while `len(queue) < open_below`, a normal message may simply be appended. Whatever needs more
thought than that (a sleeping receiver, waiting senders, a full lane, a closed mailbox) sets
`open_below` to 0 and so sends every caller through `offer`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from actors.runtime.asks import Ask
from actors.runtime.errors import ActorStopped, MailboxFull
from actors.runtime.lanes import DONE, Lane, Overflow, Parked, Urgent, unwrapped

PARKED_MAX = 1024
"""Senders that may wait for a slot in one lane; the next one is refused."""


def _unwatched(open_below: int) -> None:
    """Nobody keeps a copy."""


class Mailbox:
    """The queue of one actor, kept across its restarts."""

    __slots__ = (
        "_bury",
        "_moved",
        "_sleeping",
        "actor",
        "closed",
        "no_answer",
        "normal",
        "open_below",
        "queue",
        "urgent",
        "urgent_waiting",
    )

    def __init__(
        self,
        actor: str,
        *,
        capacity: int,
        urgent_capacity: int,
        overflow: Overflow,
        bury: Callable[[object, str], None],
    ) -> None:
        self.actor = actor
        self.queue: deque[object] = deque()
        self.normal = Lane("normal", capacity, overflow)
        urgent_overflow = Overflow.WAIT if overflow is Overflow.WAIT else Overflow.REFUSE
        self.urgent = Lane("urgent", urgent_capacity, urgent_overflow)
        self.urgent_waiting = 0
        self.open_below = capacity
        self.closed = False
        self.no_answer: Callable[[], Exception] | None = None
        """Why asks are refused at present, or None while they are taken."""
        self._bury = bury
        self._moved: Callable[[int], None] = _unwatched
        self._sleeping: asyncio.Future[None] | None = None

    def watch(self, moved: Callable[[int], None]) -> None:
        """Call `moved(open_below)` now and whenever it changes: a sender reads its own copy faster."""
        self._moved = moved
        moved(self.open_below)

    # Sending ---------------------------------------------------------------------------------------

    def offer(self, item: object, *, urgent: bool) -> Awaitable[None]:
        """Queue `item`, now or, in a lane that lets senders wait, when its turn comes.

        Raises `MailboxFull` where the lane refuses; then nothing was queued. In a closed mailbox a
        message becomes a dead letter and an ask is answered with `ActorStopped`.
        """
        lane = self.urgent if urgent else self.normal
        if self._placed(item, lane):
            return DONE
        if lane.overflow is not Overflow.WAIT:
            raise self._refusal(lane)
        return self._park(item, lane)

    def offer_nowait(self, item: object, *, urgent: bool) -> None:
        """Queue `item` now or raise `MailboxFull`, whatever the lane's policy for waiting."""
        lane = self.urgent if urgent else self.normal
        if not self._placed(item, lane):
            raise self._refusal(lane)

    def _placed(self, item: object, lane: Lane) -> bool:
        if self.closed:
            self.refuse(item, "the actor is stopped")
            return True
        if lane.parked:
            return False
        if self.depth(lane) >= lane.capacity:
            if lane.overflow is not Overflow.DROP_OLDEST:
                return False
            self._drop_oldest()
        self._place(item, lane)
        self._wake()
        return True

    def _place(self, item: object, lane: Lane) -> None:
        if lane is self.normal:
            self.queue.append(item)
        else:
            self.queue.insert(self.urgent_waiting, Urgent(item))
            self.urgent_waiting += 1
        lane.high_water = max(lane.high_water, self.depth(lane))

    def _drop_oldest(self) -> None:
        oldest = self.queue[self.urgent_waiting]
        del self.queue[self.urgent_waiting]
        self.normal.dropped += 1
        if isinstance(oldest, Ask):
            oldest.fail(MailboxFull(self.actor, "normal", self.normal.capacity))

    def _park(self, item: object, lane: Lane) -> Awaitable[None]:
        if len(lane.parked) >= PARKED_MAX:
            lane.parked = deque(parked for parked in lane.parked if not parked.gone())
            if len(lane.parked) >= PARKED_MAX:
                raise self._refusal(lane)
        admitted = None if isinstance(item, Ask) else asyncio.get_running_loop().create_future()
        lane.parked.append(Parked(item, admitted))
        self._gate()
        return DONE if admitted is None else admitted

    def _refusal(self, lane: Lane) -> MailboxFull:
        lane.refused += 1
        return MailboxFull(self.actor, lane.name, lane.capacity)

    def _wake(self) -> None:
        sleeping, self._sleeping = self._sleeping, None
        if sleeping is not None and not sleeping.done():
            sleeping.set_result(None)
        self._gate()

    def _gate(self) -> None:
        shut = self.closed or self._sleeping is not None or self.normal.parked
        self.open_below = 0 if shut else self.normal.capacity + self.urgent_waiting
        self._moved(self.open_below)

    # Receiving -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Note the depth, and hand free slots to waiting senders in the order in which they came."""
        self.note_depth()
        if self.normal.parked:
            self._admit(self.normal)

    def urgent_taken(self) -> None:
        """Account for an `Urgent` that was popped."""
        self.urgent_waiting -= 1
        self._admit(self.urgent)

    def _admit(self, lane: Lane) -> None:
        while lane.parked and self.depth(lane) < lane.capacity:
            parked = lane.parked.popleft()
            if parked.gone():
                continue
            self._place(parked.item, lane)
            if parked.admitted is not None:
                parked.admitted.set_result(None)
        self._gate()

    async def arrival(self) -> None:
        """Sleep until there is a message or the mailbox closes."""
        self.settle()
        if self.queue or self.closed:
            return
        self._sleeping = asyncio.get_running_loop().create_future()
        self._gate()
        try:
            await self._sleeping
        finally:
            self._sleeping = None
            self._gate()

    def drained(self) -> bool:
        """Whether the mailbox is closed and nothing is left to handle."""
        return self.closed and not (self.queue or self.normal.parked or self.urgent.parked)

    # Ending ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take nothing more; what is queued or waits for a slot can still be handled."""
        self.closed = True
        self._wake()

    def refuse(self, item: object, cause: str) -> None:
        """Answer an ask with `ActorStopped`; make anything else a dead letter."""
        if isinstance(item, Ask):
            item.fail(ActorStopped(self.actor))
        else:
            self._bury(item, cause)

    def refuse_all(self, cause: str) -> None:
        """Close, empty both lanes, release every waiting sender: nothing is left unanswered."""
        self.close()
        items = [unwrapped(item) for item in self.queue]
        self.queue.clear()
        self.urgent_waiting = 0
        for lane in (self.urgent, self.normal):
            for parked in lane.parked:
                if not parked.gone():
                    items.append(parked.item)
                    if parked.admitted is not None:
                        parked.admitted.set_result(None)
            lane.parked.clear()
        for item in items:
            self.refuse(item, cause)

    def fail_asks(self, error: Callable[[], Exception]) -> None:
        """Answer every queued or waiting ask with `error()`; other messages stay, in order."""
        kept: list[object] = []
        for item in self.queue:
            inner = unwrapped(item)
            if isinstance(inner, Ask):
                inner.fail(error())
                self.urgent_waiting -= inner is not item
            else:
                kept.append(item)
        self.queue.clear()
        self.queue.extend(kept)
        for lane in (self.urgent, self.normal):
            for parked in lane.parked:
                if isinstance(parked.item, Ask):
                    parked.item.fail(error())
            self._admit(lane)

    # Looking ---------------------------------------------------------------------------------------

    def depth(self, lane: Lane) -> int:
        """Messages queued in `lane`."""
        return self.urgent_waiting if lane is self.urgent else len(self.queue) - self.urgent_waiting

    def note_depth(self) -> None:
        """Raise the normal lane's high-water mark to its present depth; appends do not look."""
        depth = len(self.queue) - self.urgent_waiting
        if depth > self.normal.high_water:
            self.normal.high_water = depth
