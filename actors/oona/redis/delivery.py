"""A message from Redis in a consumer's hands."""

from typing import Final, Protocol

import msgspec

from actors.oona.priority import Lane, Priority
from actors.oona.receiving import Block
from actors.oona.redis.wire import Taken


class Holder(Protocol):
    """The subscription that was given the message."""

    @property
    def group(self) -> str: ...
    def ack(self, delivery: "RedisDelivery") -> None: ...
    def nack(self, delivery: "RedisDelivery", delay_s: float | None, error: str | None) -> None: ...
    def extend(self, delivery: "RedisDelivery", deadline_s: float) -> None: ...


ERROR_CHARS_MAX: Final = 1_000
"""Characters of a handler's error that are kept with a message."""


class RedisDelivery(Block, msgspec.Struct, eq=False):
    """Implements `Delivery`, for one attempt. `delivery_of` makes one."""

    message: msgspec.Struct
    topic: str
    event_id: str
    key: str
    """Of its entry on the server."""
    attempt: int
    published_s: float
    due_s: float
    name: tuple[str, str]
    """Topic and event id."""
    place: tuple[str, str]
    """Topic and key."""
    taken: Taken
    holder: Holder

    @property
    def group(self) -> str:
        return self.holder.group

    @property
    def priority(self) -> Priority:
        return Priority(self.taken.priority)

    @property
    def lane(self) -> Lane:
        return Lane(self.taken.lane)

    def ack(self) -> None:
        self.holder.ack(self)

    def nack(self, delay_s: float | None = None, error: str | None = None) -> None:
        """Raises ValueError if the delay is negative or above the topic's `postpone_max_s`.

        Of the error's text the first 1,000 characters travel; what is no Unicode text becomes `?`."""
        if error is not None:
            error = error[:ERROR_CHARS_MAX].encode("utf-8", "replace").decode()
        self.holder.nack(self, delay_s, error)

    def extend(self, deadline_s: float) -> None:
        """Raises ValueError if the deadline is not above 0 or above the topic's `postpone_max_s`."""
        self.holder.extend(self, deadline_s)


def delivery_of(taken: Taken, message: msgspec.Struct, holder: Holder) -> RedisDelivery:
    """An entry that `holder` was given, in its hands."""
    topic, event_id, key = taken.topic, taken.event_id, taken.key
    return RedisDelivery(
        message,
        topic,
        event_id,
        key,
        taken.attempt,
        taken.published_s,
        taken.due_s,
        (topic, event_id),
        (topic, key),
        taken,
        holder,
    )
