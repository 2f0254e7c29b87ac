"""One consumer in its group of one or more topics: what it takes, in which order."""

from actors.oona.consumer import Consumer
from actors.oona.entry import Entry
from actors.oona.group import Group
from actors.oona.topic import Topic


class Membership:
    """Urgent before normal over all topics; topics in turn."""

    __slots__ = ("_first", "_places", "consumer")

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self._places: list[tuple[Topic, Group]] = []
        self._first = 0

    def join(self, topic: Topic, group: str, lossy: bool, now_s: float) -> None:
        """Raises ValueError, with nothing changed."""
        self._places.append((topic, topic.join(group, self.consumer, lossy, now_s)))

    def leave(self, now_s: float) -> None:
        """Leave all groups; what was in hand goes to the others."""
        for topic, group in self._places:
            topic.leave(group, self.consumer, now_s)
        self._places = []

    def take(self, limit: int, now_s: float) -> list[tuple[Group, Entry]]:
        """At most `limit` messages, in this consumer's hands then.

        While its breaker is open it gets urgent ones only; half open, one other as a probe."""
        taken: list[tuple[Group, Entry]] = []
        consumer = self.consumer
        for _, group in self._places:
            group.take(group.urgent, consumer, limit - len(taken), now_s, taken)
        normal = consumer.breaker.permits(now_s, limit - len(taken))
        if normal <= 0:
            return taken
        limit = len(taken) + normal
        urgent = len(taken)
        for _, group in self._in_turn():
            group.take(group.normal, consumer, limit - len(taken), now_s, taken)
        if len(taken) > urgent and not consumer.breaker.closed:
            consumer.breaker.began()
        return taken

    def _in_turn(self) -> list[tuple[Topic, Group]]:
        if len(self._places) == 1:
            return self._places
        self._first = (self._first + 1) % max(1, len(self._places))
        return self._places[self._first :] + self._places[: self._first]
