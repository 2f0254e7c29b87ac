"""A message of this process on its way to the server."""

import enum

import msgspec

from actors.oona.entry import Publication
from actors.oona.priority import LOWEST_URGENT, Priority

OVERHEAD_BYTES = 256
"""What a message takes beside its envelope, roughly."""


class Stage(enum.Enum):
    """Where a message is.

    AWAITED ──taken──────────────────▶ RETAINED ──every group settled it──▶ gone
    WAITING ──▶ UNDER_WAY ──taken──────▲
       ▲───no room, not sent──┘
    """

    AWAITED = enum.auto()
    """Its publisher waits for the answer."""
    WAITING = enum.auto()
    UNDER_WAY = enum.auto()
    RETAINED = enum.auto()


class Outgoing(Publication):
    """`keys` are those of its entries on the server, as soon as they are known; `counted` says whether it
    takes its place in the outbox."""

    __slots__ = ("counted", "envelope", "keys", "size", "stage", "urgent")

    def __init__(
        self,
        number: int,
        topic: str,
        message: msgspec.Struct,
        priority: Priority,
        event_id: str,
        published_s: float,
        expires_s: float | None,
        envelope: bytes,
    ) -> None:
        self.number = number
        self.topic = topic
        self.message = message
        self.priority = priority
        self.event_id = event_id
        self.published_s = published_s
        self.expires_s = expires_s
        self.envelope = envelope
        self.keys = ""
        self.counted = False
        self.stage = Stage.AWAITED
        self.size = len(envelope) + OVERHEAD_BYTES
        self.urgent = priority >= LOWEST_URGENT
