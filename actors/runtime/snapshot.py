"""What a running system looks like at one moment: frozen records, cheap enough to take every second."""

from enum import StrEnum

import msgspec


class ActorState(StrEnum):
    """Where an actor is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    DRAINING = "draining"
    STOPPED = "stopped"
    ESCALATED = "escalated"


class LaneSnapshot(msgspec.Struct, frozen=True):
    """One lane of a mailbox, in messages; all but `depth` and `parked` since the actor was spawned."""

    depth: int
    capacity: int
    high_water: int
    parked: int
    refused: int
    dropped: int


class ActorSnapshot(msgspec.Struct, frozen=True):
    """One actor. `asks` are its edges in the graph of who asks whom."""

    name: str
    state: ActorState
    critical: bool
    asks: tuple[str, ...]
    normal: LaneSnapshot
    urgent: LaneSnapshot
    handled: int
    failed: int
    expired: int
    unhandled: int
    restarts: int
    rate_per_s: float


class SystemSnapshot(msgspec.Struct, frozen=True):
    """All actors, in the order in which they were spawned."""

    at_wall_ns: int
    actors: tuple[ActorSnapshot, ...]
    open_asks: int
    dead_letters: int

    def actor(self, name: str) -> ActorSnapshot:
        """The actor called `name`; `KeyError` names those there are."""
        for actor in self.actors:
            if actor.name == name:
                return actor
        raise KeyError(f"no actor {name!r}; there are {', '.join(actor.name for actor in self.actors)}")
