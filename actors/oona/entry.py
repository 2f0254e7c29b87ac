"""A message inside the core: once as published, and once more for each group that has it to settle."""

import enum
from typing import TYPE_CHECKING

import msgspec

from actors.oona.priority import Priority

if TYPE_CHECKING:
    from actors.oona.queue import LaneQueue


class Publication(msgspec.Struct, eq=False, gc=False):
    """A message as it was published; shared by the groups of its topic."""

    number: int
    """Rises with each publication on the bus: the order that is kept."""
    topic: str
    message: msgspec.Struct
    priority: Priority
    event_id: str
    published_s: float
    expires_s: float | None

    def expired(self, now_s: float) -> bool:
        return self.expires_s is not None and self.expires_s <= now_s


class Place(enum.Enum):
    """Where an entry is.

    WAITING ──take──▶ HELD ──extend──▶ EXTENDED ──ack──▶ SETTLED
       ▲               └── nack, deadline passed ──┘        ▲
       └──backoff over── POSTPONED ◀──────┘                 │
    any place ──late ack, expiry, dropped, attempts used up─┘
    """

    WAITING = enum.auto()
    POSTPONED = enum.auto()
    HELD = enum.auto()
    EXTENDED = enum.auto()
    SETTLED = enum.auto()


# By name: to look a member up on its enum takes longer than most of what is done with it.
WAITING, POSTPONED, HELD, EXTENDED, SETTLED = Place


class Entry:
    """What one group knows of one message."""

    __slots__ = (
        "attempts",
        "due_s",
        "failed_by",
        "holder",
        "last_error",
        "place",
        "publication",
        "queue",
        "rank",
        "since_s",
        "ticket",
    )

    def __init__(self, publication: Publication, queue: "LaneQueue", rank: int) -> None:
        self.publication = publication
        self.queue = queue
        self.rank = rank
        self.place = WAITING
        self.attempts = 0
        self.due_s = 0.0  # HELD, EXTENDED: the acknowledgement deadline; POSTPONED: the end of the backoff
        self.since_s = publication.published_s  # when it came to wait, or into these hands
        self.ticket = 0  # number of its last item on an agenda
        self.holder = ""  # consumer that has it or had it last
        self.failed_by = ""  # consumer whose breaker last counted a failure of it
        self.last_error = ""
