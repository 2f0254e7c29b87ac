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


class RedisDelivery(Block):
    """Implements `Delivery`, for one attempt."""

    __slots__ = ("_holder", "_taken", "attempt", "due_s", "event_id", "key", "message", "topic")

    def __init__(self, holder: Holder, taken: Taken, message: msgspec.Struct) -> None:
        self._holder = holder
        self._taken = taken
        self.message = message
        self.due_s = taken.due_s
        self.topic = taken.topic
        self.event_id = taken.event_id
        self.attempt = taken.attempt
        self.key = taken.key  # its entry on the server

    @property
    def group(self) -> str:
        return self._holder.group

    @property
    def priority(self) -> Priority:
        return Priority(self._taken.priority)

    @property
    def lane(self) -> Lane:
        return Lane(self._taken.lane)

    @property
    def published_s(self) -> float:
        return self._taken.published_s

    def ack(self) -> None:
        self._holder.ack(self)

    def nack(self, delay_s: float | None = None, error: str | None = None) -> None:
        """Raises ValueError if the delay is negative or above the topic's `postpone_max_s`.

        Of the error's text the first 1,000 characters travel; what is no Unicode text becomes `?`."""
        if error is not None:
            error = error[:ERROR_CHARS_MAX].encode("utf-8", "replace").decode()
        self._holder.nack(self, delay_s, error)

    def extend(self, deadline_s: float) -> None:
        """Raises ValueError if the deadline is not above 0 or above the topic's `postpone_max_s`."""
        self._holder.extend(self, deadline_s)
