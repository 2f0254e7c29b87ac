"""How this process deals with the server: every deadline and bound, with its unit and default."""

import msgspec


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is particular to the Redis back end."""

    deadline_s: float = 0.5
    """Seconds until the server must have answered; later it counts as gone."""
    slack_s: float = 0.25
    """Seconds that an answer may come later than that when it was this process that stood still."""
    loading_wait_s: float = 10.0
    """Seconds that opening the bus waits for a server that still loads its data."""
    backoff_first_s: float = 0.1
    """Seconds before the first try to connect again; they double with each."""
    backoff_max_s: float = 2.0
    """Seconds between two tries at most."""
    batch_ops_max: int = 128
    """Operations that go to the server at a time."""
    batch_bytes_max: int = 1024 * 1024
    """Bytes of messages that go to the server at a time; a single message may be larger."""
    waiting_ops_max: int = 100_000
    """Acknowledgements and the like kept while the server is away; then the oldest are let go, and what they
    would have settled comes again."""
    outbox_messages_max: int = 20_000
    """Messages of this process that wait for the server, or are kept until every group has settled them."""
    outbox_bytes_max: int = 64 * 1024 * 1024
    """Their bytes."""
    settled_ids_max: int = 10_000
    """Event ids that each group remembers here as done."""
    dead_after_s: float = 15.0
    """Seconds without a sign of life after which what a consumer holds goes to the others."""
    beat_s: float = 1.0
    """Seconds between two signs of life."""
    stats_s: float = 0.5
    """Seconds between two looks at the server's books."""
    retry_s: float = 0.5
    """Seconds between two tries to hand over what the server had no room for."""
    reclaim_s: float = 60.0
    """Seconds between two looks for entries that somebody read past the bus and never acknowledged."""
    strange_s: float = 5.0
    """Seconds between two looks for entries that somebody added past the bus."""
    drain_s: float = 1.0
    """Seconds that closing waits for what is on its way."""
    recorders: tuple[str, ...] = ()
    """Groups that only take down what they hear: a command that waited for hours tells them what was said."""
    own_clock: bool = False
    """Whether the clock given is used as it is. Otherwise it is set by the server's, which all share."""
