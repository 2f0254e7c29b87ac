"""What a topic and the whole bus promise: every bound, deadline and mark, with its unit and default."""

import enum
import math

import msgspec


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} {value} is out of range; it takes 1 or more")


def _positive_seconds(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"{name} {value} is out of range; it takes a finite number of seconds above 0")


class Overflow(enum.Enum):
    """What happens to a message of the normal lane when a group's queue is full."""

    WAIT = "wait"
    """The publisher parks, first come first served, until there is room or `wait_max_s` has passed."""
    REJECT = "reject"
    """The publisher is refused with `QueueFullError`."""
    DROP_OLDEST = "drop_oldest"
    """The oldest message that is in nobody's hands makes room, and is counted."""
    REROUTE = "reroute"
    """It takes one of the `reroute_capacity` places in the urgent lane, ahead of the normal lane."""


class TopicPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic. Capacities are per group and count what is unsettled: waiting, postponed or in hand."""

    groups: tuple[str, ...] = ()
    """Groups that retain messages from the start, also while nobody is subscribed."""
    capacity: int = 1_000
    """Messages in the normal lane."""
    urgent_capacity: int = 256
    """Messages in the urgent lane; when it is full urgent messages are refused, whatever `overflow` says."""
    overflow: Overflow = Overflow.REJECT
    reroute_capacity: int = 64
    """Messages of the urgent lane that rerouted ones may take; less than `urgent_capacity`."""
    parked_max: int = 256
    """Publishers that may wait for room at a time (`WAIT`)."""
    wait_max_s: float = 5.0
    """Seconds a publisher waits for room before it is refused (`WAIT`)."""
    ack_deadline_s: float = 5.0
    """Seconds a consumer may hold a message before it goes to another."""
    attempts_max: int = 5
    """Deliveries before the message is a dead letter."""
    backoff_s: tuple[float, ...] = (0.25, 1.0, 4.0)
    """Seconds before the second, third, ... delivery; the last value repeats."""
    postpone_max_s: float = 600.0
    """Longest delay of one nack and longest reach of one extension, seconds."""
    ttl_s: float | None = None
    """Seconds after which a message that is in nobody's hands expires; None: never."""
    stall_after_s: float | None = 2.0
    """Seconds the oldest message may go unacknowledged before the bus turns conservative; None: any."""
    dead_letters_max: int = 1_000
    """Dead letters kept for this topic; one more lets the oldest go, counted."""
    retention_s: float = 86_400.0
    """Seconds a dead letter is kept."""
    history: int = 0
    """Newest messages kept for who comes late."""

    def __post_init__(self) -> None:
        for name in ("capacity", "urgent_capacity", "parked_max", "attempts_max", "dead_letters_max"):
            _at_least_one(name, getattr(self, name))
        for name in (
            "wait_max_s",
            "ack_deadline_s",
            "postpone_max_s",
            "ttl_s",
            "stall_after_s",
            "retention_s",
        ):
            _positive_seconds(name, getattr(self, name))
        if not 0 <= self.reroute_capacity < self.urgent_capacity:
            raise ValueError(
                f"reroute_capacity {self.reroute_capacity} would let normal traffic fill the urgent lane; "
                f"it takes 0 to {self.urgent_capacity - 1} (urgent_capacity - 1)"
            )
        if not self.backoff_s or not all(0 <= s < math.inf for s in self.backoff_s):
            raise ValueError(f"backoff_s {self.backoff_s} must be one or more delays of 0 s or longer")
        if self.history < 0:
            raise ValueError(f"history {self.history} is out of range; it takes 0 or more")
        if len(set(self.groups)) != len(self.groups):
            raise ValueError(f"groups {self.groups} name a group twice")


class ConservativePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the bus takes urgent traffic only. Depth is summed over all groups of all topics."""

    high_mark: int = 4_000
    """Unsettled messages above which the mode begins."""
    low_mark: int = 1_000
    """Unsettled messages under which it may end."""
    dwell_s: float = 60.0
    """Seconds that must pass after the last cause before it ends."""

    def __post_init__(self) -> None:
        if not 0 < self.low_mark <= self.high_mark:
            raise ValueError(
                f"low mark {self.low_mark}, high mark {self.high_mark}: they take 0 < low <= high"
            )
        _positive_seconds("dwell_s", self.dwell_s)


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When repeated failure stops further tries for a while."""

    failures_max: int = 3
    """Failures in a row that open the breaker."""
    open_s: float = 30.0
    """Seconds it stays open before one probe is let through."""

    def __post_init__(self) -> None:
        _at_least_one("failures_max", self.failures_max)
        _positive_seconds("open_s", self.open_s)


class BusConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for the whole bus."""

    conservative: ConservativePolicy = ConservativePolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    dedup_ids_max: int = 10_000
    """Event ids remembered a topic; an id seen again within them is a duplicate."""
    groups_max: int = 16
    """Consumer groups a topic."""
    consumers_max: int = 64
    """Consumers a group."""
    tick_s: float = 0.1
    """Seconds between two rounds of housekeeping: how exact deadlines are."""
    tick_breath_s: float = 0.001
    """Seconds to the next round when one has left work over."""
    tick_work_max: int = 256
    """Messages that one round of housekeeping may move."""
    slice_messages: int = 256
    """Messages that one publisher or consumer may move before it lets the event loop go round."""

    def __post_init__(self) -> None:
        for name in ("dedup_ids_max", "groups_max", "consumers_max", "tick_work_max", "slice_messages"):
            _at_least_one(name, getattr(self, name))
        for name in ("tick_s", "tick_breath_s"):
            _positive_seconds(name, getattr(self, name))
