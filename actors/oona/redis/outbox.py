"""What this process keeps for the server: what it has not taken yet, and what it may have to be given again.

Synchronous bookkeeping: nothing here waits. Bounded in messages and bytes together. Each lane of a topic has
a line of its own, sent in the order in which it came: once one finds no room, those behind it wait with it.
"""

from collections.abc import Sequence
from itertools import islice

from actors.oona.errors import OutboxFullError
from actors.oona.redis.outgoing import AWAITED, RETAINED, UNDER_WAY, WAITING, Outgoing


class Line:
    """What one topic has here, by publication number. `round` counts how often it found no room."""

    __slots__ = ("_sorted", "blocked", "retained", "round", "sheddable", "under_way", "waiting")

    def __init__(self, sheddable: bool) -> None:
        self.sheddable = sheddable
        self.waiting: dict[int, Outgoing] = {}
        self.under_way: dict[int, Outgoing] = {}
        self.retained: dict[int, Outgoing] = {}
        self.blocked = False
        self.round = 0
        self._sorted = True

    def wait(self, item: Outgoing) -> None:
        """Back among those that wait."""
        self.under_way.pop(item.number, None)
        self.waiting[item.number] = item
        item.stage = WAITING
        self._sorted = False

    def in_order(self) -> list[Outgoing]:
        """What waits, the oldest first."""
        if not self._sorted:
            self.waiting = dict(sorted(self.waiting.items()))
            self._sorted = True
        return list(self.waiting.values())


class Outbox:
    """`sheddable` says by topic whether its messages may be dropped for newer ones."""

    def __init__(self, sheddable: dict[str, bool], messages_max: int, bytes_max: int) -> None:
        self._of_topic = {topic: (Line(may), Line(may)) for topic, may in sheddable.items()}
        self._lines = [line for lines in self._of_topic.values() for line in lines]
        self.messages = 0
        self.bytes = 0
        self._messages_max = messages_max
        self._bytes_max = bytes_max

    @property
    def queued(self) -> int:
        """Messages that the server has not taken yet."""
        return sum(len(line.waiting) + len(line.under_way) for line in self._lines)

    def queued_of(self, topic: str, urgent: bool) -> int:
        """The same, of one line."""
        line = self.line(topic, urgent)
        return len(line.waiting) + len(line.under_way)

    def line(self, topic: str, urgent: bool) -> Line:
        return self._of_topic[topic][urgent]

    def line_of(self, item: Outgoing) -> Line:
        return self._of_topic[item.topic][item.urgent]

    def waits(self, topic: str) -> bool:
        """Whether anything of this topic waits to be sent."""
        normal, urgent = self._of_topic[topic]
        return bool(normal.waiting or urgent.waiting)

    @property
    def retained(self) -> int:
        """Messages kept until every group has settled them."""
        return sum(len(line.retained) for line in self._lines)

    # What comes in

    def admit(self, item: Outgoing) -> bool:
        """Count a message whose publisher waits, so that it can be retained; False if there is no room."""
        size = self.bytes + item.size
        if self.messages >= self._messages_max or size > self._bytes_max:
            return False
        item.counted = True
        self.messages += 1
        self.bytes = size
        return True

    def put(self, item: Outgoing) -> list[Outgoing]:
        """Queue a message; returns what had to be dropped for it. Raises OutboxFullError, nothing changed."""
        dropped = self._make_room(item)
        item.counted = True
        self.messages += 1
        self.bytes += item.size
        line = self.line_of(item)
        item.stage = WAITING
        line.waiting[item.number] = item
        return dropped

    def _make_room(self, item: Outgoing) -> list[Outgoing]:
        messages, size = self.messages + 1, self.bytes + item.size
        if messages <= self._messages_max and size <= self._bytes_max:
            return []
        victims: list[Outgoing] = []
        for victim in self._sheddable():
            victims.append(victim)
            messages, size = messages - 1, size - victim.size
            if messages <= self._messages_max and size <= self._bytes_max:
                for each in victims:
                    self.done(each)
                return victims
        raise OutboxFullError(
            f"{item.topic} can't take {item.event_id}: {self.messages} messages ({self.bytes} bytes) are "
            "kept for the server, as many as may (outbox_messages_max, outbox_bytes_max); try again later"
        )

    def _sheddable(self) -> list[Outgoing]:
        """What may be dropped, the oldest first."""
        lines = [line for line in self._lines if line.sheddable]
        return sorted((item for line in lines for item in line.waiting.values()), key=_number)

    # What goes out

    def ready(self, topic: str, urgent: bool) -> list[Outgoing]:
        """What is to be sent now, in order; it is under way then. Of a line without room only the first."""
        line = self.line(topic, urgent)
        if not line.waiting or (line.blocked and line.under_way):
            return []
        items = line.in_order()[: 1 if line.blocked else None]
        for item in items:
            del line.waiting[item.number]
            line.under_way[item.number] = item
            item.stage = UNDER_WAY
        return items

    def unsent(self, item: Outgoing) -> None:
        """It was not sent after all."""
        if item.stage is UNDER_WAY:
            self.line_of(item).wait(item)

    def refused(self, item: Outgoing) -> None:
        """There was no room for it: it waits, and what is behind it too."""
        line = self.line_of(item)
        line.blocked = True
        line.round += 1
        for each in list(line.under_way.values()):
            line.wait(each)

    def taken(self, item: Outgoing, keys: str) -> None:
        """The server has it; it is retained if its entries are known and it may not be lost."""
        line = self._of_topic[item.topic][item.urgent]
        line.blocked = False
        if not item.counted:
            return
        if line.sheddable or not keys:
            self.done(item)
            return
        if item.stage is not AWAITED:
            self._remove(line, item)
        line.retained[item.number] = item
        item.keys = keys
        item.stage = RETAINED

    def done(self, item: Outgoing) -> None:
        """No more to be kept, whatever became of it."""
        if not item.counted:
            return
        item.counted = False
        if item.stage is RETAINED:
            del self._of_topic[item.topic][item.urgent].retained[item.number]
        elif item.stage is not AWAITED:
            self._remove(self.line_of(item), item)
        self.messages -= 1
        self.bytes -= item.size

    def expired(self, now_s: float) -> list[Outgoing]:
        """What outlived its time to live while it waited; it is gone from here."""
        waiting = [item for line in self._lines for item in line.waiting.values()]
        items = [item for item in waiting if item.expired(now_s)]
        for item in items:
            self.done(item)
        return items

    # What the server may have to be given again

    def unsettled(self, topic: str, count_max: int) -> list[Outgoing]:
        """Some that are retained: those that were not asked for the longest time."""
        normal, urgent = (line.retained.values() for line in self._of_topic[topic])
        return [*islice(urgent, count_max // 4), *islice(normal, count_max * 3 // 4)]

    def retained_of(self, topic: str) -> list[Outgoing]:
        """The urgent ones first."""
        normal, urgent = self._of_topic[topic]
        return [*urgent.retained.values(), *normal.retained.values()]

    def settled(self, topic: str, urgent: bool, items: Sequence[Outgoing]) -> None:
        """No more to be kept, of what one line retains; what is gone from there already is passed over."""
        retained = self.line(topic, urgent).retained
        for item in items:
            if retained.pop(item.number, None) is not None:
                item.counted = False
                self.messages -= 1
                self.bytes -= item.size

    def still_unsettled(self, item: Outgoing) -> None:
        """It was asked for."""
        retained = self.line_of(item).retained
        if retained.pop(item.number, None) is not None:
            retained[item.number] = item

    def all_retained(self) -> list[Outgoing]:
        """In the order of publication."""
        return sorted((item for line in self._lines for item in line.retained.values()), key=_number)

    def owed(self, item: Outgoing) -> None:
        """A retained message that a new server has no room for waits again, before what is newer."""
        line = self.line_of(item)
        if line.retained.pop(item.number, None) is not None:
            line.wait(item)
            self.refused(item)

    def _remove(self, line: Line, item: Outgoing) -> None:
        for place in (line.waiting, line.under_way, line.retained):
            place.pop(item.number, None)


def _number(item: Outgoing) -> int:
    return item.number
