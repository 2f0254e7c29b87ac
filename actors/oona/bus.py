"""The bus as publishers and consumers see it; every back end is one implementation of `Bus`.

What each back end promises, and the conformance suite checks:

- Every group of a topic gets every message that was published after the group was made: at least once, until
  it is acknowledged. A group declared in the topic's policy exists from the start and retains messages while
  nobody is subscribed; any other exists from its first consumer to its last. With no group a message is
  unrouted: counted, gone.
- The urgent lane is delivered before the normal one, in a lane the higher priority first, and within a topic,
  lane and priority in the order of publication. A redelivery comes when its backoff is over and holds nobody
  up meanwhile.
- A message is taken by all groups of its topic or by none.
- An event id seen again within the window is answered like the first time, and not delivered twice.
- Within one process each message has its effect once: what a consumer has acknowledged is given to nobody
  of its group there again, whatever becomes of the acknowledgement or of the server's data, and what one of
  them has in hand before its deadline to no other. (So many ids are remembered, and a dead letter that is
  replayed is a new message.)
- Another process may be given it again: if the first one died or was cut off before its acknowledgement
  arrived, if it let the deadline pass, or if the server lost its data before the publisher had heard that
  every group was done. No bus can tell; the consumer's own store can. Who may have a successor or
  colleagues in other processes keeps effects where they last, by event id or by what the message names:
  Nissa's journal its events by topic and event id and field reports by their own, Kasmina's engine its
  commands by command id, prefetching and the compiler kernels by key; and the warden follows no signal from
  before its birth.
- The ledger closes, for each group and lane (see `ledger.py`).

Acknowledgements take effect at the latest with the back end's next round trip; a lost one means a redelivery.
Nothing here presumes that publisher and consumer share memory, but the memory back end passes messages by
reference: they are frozen structs.
"""

import enum
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self

import msgspec

from actors.oona.metrics import BusMetrics
from actors.oona.priority import Lane, Priority


class Outcome(enum.Enum):
    """What became of a message that was not refused."""

    ACCEPTED = "accepted"
    REROUTED = "rerouted"
    """Taken, in one group or more through the urgent lane."""
    DUPLICATE = "duplicate"
    """The event id was taken before: nothing more is delivered."""
    UNROUTED = "unrouted"
    """The topic has no group."""
    QUEUED = "queued"
    """In this process's outbox: it goes to the server as soon as that takes it."""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The answer to a publisher."""

    event_id: str
    outcome: Outcome


class Past(msgspec.Struct, frozen=True):
    """A message that was published before, for who comes late."""

    event_id: str
    priority: Priority
    message: msgspec.Struct
    published_s: float
    """On the bus's clock."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that one group could not handle, and why."""

    letter_id: str
    topic: str
    group: str
    event_id: str
    priority: Priority
    message: msgspec.Struct
    attempts: int
    last_error: str
    died_s: float
    """On the bus's clock."""


class Delivery(Protocol):
    """A message in a consumer's hands until it is acknowledged or its deadline passes.

    As a context manager it is acknowledged at the end of the block, or given back with the error that ended
    the block (cancelled: without one); the error goes on up.
    """

    @property
    def event_id(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def lane(self) -> Lane: ...
    @property
    def message(self) -> msgspec.Struct: ...
    @property
    def attempt(self) -> int:
        """1 for the first delivery."""

    def ack(self) -> None:
        """Done: settle the message. Also settles it after the deadline, if it still is unsettled."""

    def nack(self, delay_s: float | None = None, error: str | None = None) -> None:
        """Give it back, to be delivered again after `delay_s` seconds, or become a dead letter.

        `delay_s` None is the topic's backoff; a dead letter it is when its attempts are used up. With an
        `error` it counts as a failure of this consumer. Ignored if it is no longer in these hands."""

    def extend(self, deadline_s: float) -> None:
        """Keep it for `deadline_s` seconds from now. Ignored if the message is no longer in these hands."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Subscription(Protocol):
    """One consumer of a group. `async for` takes messages one by one, until the subscription is closed."""

    async def receive(self, max_messages: int = 1, wait_s: float | None = None) -> Sequence[Delivery]:
        """Wait for at least one message and take at most `max_messages`; nothing if none came in `wait_s`.

        `wait_s` 0 takes what is there now, None waits for ever. Cancelled, it has lost none. Raises
        ClosedError when the subscription or the bus is closed."""

    def close(self) -> None:
        """Leave the group. What this consumer holds goes to the others."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class DeadLetters(Protocol):
    """The messages that were given up, oldest first. One that is replayed or dropped is gone from here."""

    async def list(self, topic: str | None = None, group: str | None = None) -> Sequence[DeadLetter]: ...

    async def inspect(self, letter_id: str) -> DeadLetter:
        """Raises UnknownLetterError."""

    async def replay(self, letter_id: str) -> None:
        """Queue it again in the group that gave it up, with all its attempts and a new time to live.

        Raises UnknownLetterError, or RefusedError if it can't be taken now; then it stays a letter."""

    async def drop(self, letter_id: str) -> None:
        """Raises UnknownLetterError."""


class Bus(Protocol):
    """Topics, declared when it is made; consumer groups; at-least-once delivery."""

    @property
    def dead_letters(self) -> DeadLetters: ...

    async def publish(
        self,
        topic: str,
        message: msgspec.Struct,
        *,
        priority: Priority = Priority.NORMAL,
        event_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Receipt:
        """Hand a message over, waiting for room where the topic's policy says so.

        `event_id` makes a repeat recognisable (None: the bus gives one); `ttl_s` None is the topic's. Raises
        RefusedError (the message is nowhere), UnknownTopicError, ClosedError. Cancelled while it waits for
        room it leaves no trace."""

    def publish_nowait(
        self,
        topic: str,
        message: msgspec.Struct,
        *,
        priority: Priority = Priority.NORMAL,
        event_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Receipt:
        """Like `publish`, but refused where that would wait.

        A back end in another process answers `QUEUED`: what becomes of the message shows in the metrics."""

    async def flush(self) -> None:
        """Until the back end has answered everything handed over here, at most for its deadline.

        What it turns away for want of room is answered too, and stays here to be tried again."""

    def subscribe(
        self, topics: str | Sequence[str], group: str, consumer: str, lossy: bool = False
    ) -> Subscription:
        """Join `group` of each topic under the name `consumer`, unique in the group while it is there.

        A group that is made by this, `lossy`, holds nobody up: when it is full its oldest waiting message is
        dropped, or it goes without the new one, and it is no cause of conservative mode. Raises ValueError if
        it can't be joined, at once or, where only the back end knows, out of `receive`."""

    async def history(self, topic: str) -> Sequence[Past]:
        """The newest messages of a topic, oldest first, as many as its policy keeps (`history`).

        Whatever became of them since; what was refused, shed or a duplicate is not among them. Raises
        UnknownTopicError."""

    def metrics(self) -> BusMetrics:
        """What happened so far, as last known here; changes nothing."""

    async def refresh(self) -> BusMetrics:
        """What happened so far, as the back end has it now."""

    @property
    def tick_s(self) -> float:
        """Seconds between two rounds of housekeeping: how exact deadlines are."""

    async def keep_house(self) -> None:
        """One round: redeliver, expire and review what is due by now, in bounded pieces with breaths between.

        Whoever owns the bus calls this every `tick_s`, or leaves it to `run_housekeeping`."""

    async def run_housekeeping(self) -> None:
        """Keep house on the clock until the bus is closed."""

    async def close(self) -> None:
        """Refuse publishers, end subscriptions. What is unsettled stays so."""
