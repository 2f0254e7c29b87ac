"""A consumer's end of the memory back end: waits for messages, hands them out, takes the acknowledgements."""

import asyncio

import msgspec

from actors.oona import texts
from actors.oona.entry import Entry
from actors.oona.errors import ClosedError
from actors.oona.group import Group
from actors.oona.membership import Membership
from actors.oona.priority import Lane, Priority
from actors.oona.receiving import Block, Loop
from actors.runtime.clock import Clock


class MemoryDelivery(Block):
    """Implements `Delivery`, for one attempt: once the message has gone elsewhere this can only be late."""

    __slots__ = ("_clock", "_entry", "_group", "attempt", "message")

    def __init__(self, group: Group, entry: Entry, clock: Clock) -> None:
        self.attempt = entry.attempts
        self.message: msgspec.Struct = entry.publication.message
        self._group = group
        self._entry = entry
        self._clock = clock

    @property
    def event_id(self) -> str:
        return self._entry.publication.event_id

    @property
    def topic(self) -> str:
        return self._entry.publication.topic

    @property
    def group(self) -> str:
        return self._group.name

    @property
    def priority(self) -> Priority:
        return self._entry.publication.priority

    @property
    def lane(self) -> Lane:
        return self._entry.queue.lane

    def ack(self) -> None:
        self._group.ack(self._entry, self.attempt)

    def nack(self, delay_s: float | None = None, error: str | None = None) -> None:
        """Raises ValueError if the delay is negative or above the topic's `postpone_max_s`."""
        self._group.nack(self._entry, self.attempt, self._clock.monotonic(), delay_s, error)

    def extend(self, deadline_s: float) -> None:
        """Raises ValueError if the deadline is not above 0 or above the topic's `postpone_max_s`."""
        self._group.extend(self._entry, self.attempt, self._clock.monotonic(), deadline_s)


class MemorySubscription(Loop[MemoryDelivery]):
    """Implements `Subscription`."""

    def __init__(self, membership: Membership, clock: Clock, slice_messages: int) -> None:
        self._membership = membership
        self._clock = clock
        self._slice_messages = slice_messages
        self._since_wait = 0  # messages handed out since this consumer last let the event loop go round
        self._waiting: list[asyncio.Future[None]] = []
        self._closed = ""

    @property
    def closed(self) -> bool:
        return bool(self._closed)

    async def receive(self, max_messages: int = 1, wait_s: float | None = None) -> list[MemoryDelivery]:
        if self._since_wait >= self._slice_messages:
            self._since_wait = 0
            await asyncio.sleep(0)
        deliveries = self._take(max_messages)
        if deliveries or (wait_s is not None and wait_s <= 0):
            return deliveries
        if wait_s is None:
            return await self._first(max_messages, None)
        timer = asyncio.create_task(self._clock.sleep(wait_s), name="the wait of a receive")
        timer.add_done_callback(lambda _: self._wake())
        try:
            return await self._first(max_messages, timer)
        finally:
            timer.cancel()

    async def _first(self, max_messages: int, timer: asyncio.Task[None] | None) -> list[MemoryDelivery]:
        """What comes first; nothing if the timer is done before."""
        deliveries: list[MemoryDelivery] = []
        while not (deliveries or (timer is not None and timer.done())):
            self._since_wait = 0
            await self._wait()
            deliveries = self._take(max_messages)
        return deliveries

    def _take(self, max_messages: int) -> list[MemoryDelivery]:
        if self._closed:
            raise ClosedError(self._closed)
        if max_messages < 1:
            raise texts.receives_nothing(max_messages)
        clock = self._clock
        taken = self._membership.take(max_messages, clock.monotonic())
        self._since_wait += len(taken)
        return [MemoryDelivery(group, entry, clock) for group, entry in taken]

    def close(self) -> None:
        self.end(str(texts.subscription_closed(self._membership.consumer.name)))
        self._membership.leave(self._clock.monotonic())

    def end(self, reason: str) -> None:
        """Receive nothing more, but stay in the group: the bus closes."""
        self._closed = self._closed or reason
        self._wake()

    async def _wait(self) -> None:
        """Until there may be a message, or the end. Several may wait on one subscription; all are woken."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._membership.consumer.wake = self._wake
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
