"""Where every message went: the counters of a topic and of a group, and the equations they obey.

A **topic** decides on each message once:

    published = accepted + refused + shed + unrouted

A repeat within the window is a duplicate and not published again; a publisher that is parked, or was
cancelled while parked, is not counted. `refused` is for want of room; `shed` is turned away by conservative
mode.

A **group** accounts for each message published while it existed, in the lane in which it travels:

    published = acked + dead_lettered + refused + shed + dropped + expired + pending

`pending` is waiting, postponed or in hand. `dropped` made room for newer ones, `expired` outlived its time to
live. A dead letter that is dropped, or let go for age or room, stays counted.

By message id each publication is in exactly one of these places. A publisher that is refused and tries again
with the same id has published twice; so has who replays a dead letter (in the group's ledger only, as
`replayed`).
"""

import msgspec


class TopicLedger(msgspec.Struct, gc=False):
    """What one topic decided, for one lane of priorities."""

    published: int = 0
    accepted: int = 0
    refused: int = 0
    shed: int = 0
    unrouted: int = 0
    rerouted: int = 0
    """Of those accepted, how many took the urgent lane in one group or more."""
    duplicates: int = 0

    def closes(self) -> bool:
        return self.published == self.accepted + self.refused + self.shed + self.unrouted


class GroupLedger(msgspec.Struct, gc=False):
    """What became of the messages of one lane of one group."""

    published: int = 0
    acked: int = 0
    dead_lettered: int = 0
    refused: int = 0
    shed: int = 0
    dropped: int = 0
    expired: int = 0
    pending: int = 0
    pending_max: int = 0
    """Most there ever were at a time."""
    delivered: int = 0
    """Deliveries, repeats included."""
    redelivered: int = 0
    replayed: int = 0
    late: int = 0
    """Acknowledgements and the like from a consumer that no longer held the message."""

    def closes(self) -> bool:
        settled = self.acked + self.dead_lettered + self.refused + self.shed + self.dropped + self.expired
        return self.published == settled + self.pending
