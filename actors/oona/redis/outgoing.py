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


# By name: to look a member up on its enum takes longer than most of what is done with it.
AWAITED, WAITING, UNDER_WAY, RETAINED = Stage


class Outgoing(Publication, eq=False, gc=False):
    """`outgoing` makes one."""

    envelope: bytes
    size: int
    """Bytes that it takes here."""
    urgent: bool
    keys: str = ""
    """Those of its entries on the server, as soon as they are known."""
    counted: bool = False
    """Whether it takes its place in the outbox."""
    stage: Stage = AWAITED


def outgoing(
    number: int,
    topic: str,
    message: msgspec.Struct,
    priority: Priority,
    event_id: str,
    published_s: float,
    expires_s: float | None,
    envelope: bytes,
) -> Outgoing:
    """A message that nobody has taken yet."""
    size, urgent = len(envelope) + OVERHEAD_BYTES, priority >= LOWEST_URGENT
    return Outgoing(
        number, topic, message, priority, event_id, published_s, expires_s, envelope, size, urgent
    )
