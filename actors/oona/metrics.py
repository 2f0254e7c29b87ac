"""What the bus shows of itself: rows with labels, ready for any exporter."""

import msgspec

from actors.oona.histogram import HistogramSnapshot
from actors.oona.ledger import GroupLedger, TopicLedger
from actors.oona.priority import Lane
from esper.breaker import BreakerState


class TopicRow(msgspec.Struct, frozen=True):
    """One lane of one topic, counted by the priority with which a message was published."""

    topic: str
    lane: Lane
    ledger: TopicLedger


class GroupRow(msgspec.Struct, frozen=True):
    """One lane of one group, counted by the lane in which a message travels."""

    topic: str
    group: str
    lane: Lane
    ledger: GroupLedger
    latency: HistogramSnapshot
    """From publication to first delivery."""


class TopicState(msgspec.Struct, frozen=True):
    """How one topic is now."""

    topic: str
    parked: int
    """Publishers waiting for room."""
    parked_max: int
    """Most there ever were at a time."""
    breaker: BreakerState
    dead_letters: int
    """Dead letters kept."""
    dead_letters_let_go: int
    """Dead letters that had to go for age or want of room."""
    consumers: tuple[str, ...]
    """As `group/consumer`."""
    consumers_open: tuple[str, ...]
    """Those of them whose breaker is not closed."""


class LinkRow(msgspec.Struct, frozen=True, kw_only=True):
    """The connection of this process to a back end that is elsewhere."""

    connected: bool
    since_s: float
    """When it came to be so, on the bus's clock."""
    reconnects: int
    """Times the connection was made anew."""
    outbox: int
    """Messages of this process that the back end has not taken yet."""
    outbox_lost: int
    """Messages that the outbox let go, or the back end turned away, after their publisher had gone on."""
    retained: int
    """Messages kept here until every group has settled them."""
    uncertain: int
    """Publishers that were told that nobody can say what became of their message."""
    refused: dict[str, int]
    """Frames that came in and were refused, by reason."""
    full: bool = False
    """Whether the back end had no memory left for the last message that it was given."""
    given_up: int = 0
    """Batches of operations that the back end could not answer in time, however often it was asked."""


class BusMetrics(msgspec.Struct, frozen=True):
    """A snapshot, taken at one moment."""

    depth: int
    """Unsettled messages, summed over all groups."""
    depth_max: int
    conservative: bool
    conservative_cause: str
    """Empty outside conservative mode."""
    conservative_entered: int
    """Times the mode began."""
    topics: tuple[TopicState, ...]
    published: tuple[TopicRow, ...]
    groups: tuple[GroupRow, ...]
    link: LinkRow | None = None
    """None where publishers and consumers share the back end's memory."""

    def closes(self) -> bool:
        """Whether every message is accounted for."""
        return all(row.ledger.closes() for row in self.published) and all(
            row.ledger.closes() for row in self.groups
        )
