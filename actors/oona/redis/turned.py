"""What this process turned away itself, for the books on the server, and what it does not know the end of."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from actors.oona.errors import BusError, RefusedError, UncertainError
from actors.oona.redis.call import Order
from actors.oona.redis.outgoing import Outgoing


class Turned(NamedTuple):
    """Messages of one lane of a topic, and what became of them: `refused` or `shed`."""

    topic: str
    urgent: bool
    what: str


class TurnedAway:
    """`uncertain` counts the messages of which nobody can say whether the server took them."""

    def __init__(self) -> None:
        self.uncertain = 0
        self._counts: Counter[Turned] = Counter()

    def add(self, item: Outgoing, what: str) -> None:
        self._counts[Turned(item.topic, item.urgent, what)] += 1

    def failed(self, item: Outgoing, error: BusError) -> None:
        """It was refused, or nobody knows, as the error says."""
        if isinstance(error, UncertainError):
            self.uncertain += 1
        elif isinstance(error, RefusedError):
            self.add(item, "refused")

    def orders(self) -> Iterator[Order]:
        """What the server has to write into its books; it is forgotten here then."""
        counts, self._counts = self._counts, Counter()
        for (topic, urgent, what), count in counts.items():
            yield Order(("count", topic, urgent, what, count))
