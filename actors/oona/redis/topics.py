"""What this process knows of each topic as a publisher."""

from collections.abc import Iterable, Sequence

from actors.oona import texts
from actors.oona.parking import Parking
from actors.oona.policy import BusConfig, Overflow, TopicPolicy
from actors.oona.redis.wire import Fullness
from esper.breaker import Breaker


class KnownTopic:
    """Its policy, those who wait for room in it, and which of its groups were full when last heard of."""

    __slots__ = (
        "_full",
        "_full_until_s",
        "name",
        "parking",
        "policy",
        "retries",
        "settling",
        "sheddable",
        "stuck",
    )

    def __init__(self, name: str, policy: TopicPolicy, config: BusConfig) -> None:
        self.name = name
        self.policy = policy
        self.sheddable = policy.overflow is Overflow.DROP_OLDEST
        self.parking = Parking(
            name,
            policy.parked_max,
            policy.wait_max_s,
            Breaker(config.breaker.failures_max, config.breaker.open_s),
        )
        self.retries = 0
        """Parked publishers whose messages are being offered again."""
        self.settling = False
        """Whether the server is being asked what is settled."""
        self.stuck = False
        """Whether its oldest message keeps newer ones from being known as settled."""
        self._full: Sequence[Fullness] = ()
        self._full_until_s = 0.0

    def heard_full(self, lanes: Sequence[Fullness], until_s: float) -> None:
        """The server had no room; that is believed until `until_s`, or until something else is heard."""
        self._full = lanes or [Fullness("", "normal", 0, 0, self.policy.capacity)]
        self._full_until_s = until_s

    def heard_room(self) -> None:
        self._full = ()

    def known_full(self, lane: str, now_s: float) -> list[str]:
        """The groups whose lane is full, described; none if that is not known."""
        if self._full and now_s >= self._full_until_s:
            self._full = ()
        return descriptions(each for each in self._full if each.lane == lane)


def descriptions(lanes: Iterable[Fullness]) -> list[str]:
    return [
        texts.described(each.lane, each.group, each.pending, each.waiting, each.capacity)
        if each.group
        else f"a group holds as many messages as it may ({each.capacity})"
        for each in lanes
    ]
