"""A perfect little model of one topic: lists, loops over everything, no efficiency."""

from collections import Counter
from dataclasses import dataclass, field

from actors.oona.policy import BusConfig, Overflow, TopicPolicy

URGENT, NORMAL = "urgent", "normal"
RANK = {5: (URGENT, 0), 4: (URGENT, 1), 3: (NORMAL, 0), 2: (NORMAL, 1), 1: (NORMAL, 2)}


@dataclass(eq=False)
class Copy:
    """One message in one group."""

    key: str
    number: int
    priority: int
    lane: str
    rank: int
    expires: float | None
    rerouted: bool = False
    place: str = "waiting"
    due: float = 0.0
    attempts: int = 0


@dataclass
class ModelGroup:
    lines: dict[tuple[str, int], list[Copy]] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    fates: dict[str, Counter[str]] = field(default_factory=lambda: {URGENT: Counter(), NORMAL: Counter()})
    dead: list[Copy] = field(default_factory=list)
    fate_of: dict[str, str] = field(default_factory=dict)

    def pending(self, lane: str) -> int:
        return sum(copy.lane == lane for copy in self.copies)

    def rerouted(self) -> int:
        return sum(copy.rerouted for copy in self.copies)

    def line(self, copy: Copy) -> list[Copy]:
        return self.lines.setdefault((copy.lane, copy.rank), [])

    def waiting(self, lane: str) -> list[Copy]:
        return [copy for rank in range(3) for copy in self.lines.get((lane, rank), [])]

    def first(self, among: set[Copy] | None) -> Copy | None:
        """What is taken next, of these if any are named."""
        line = [*self.waiting(URGENT), *self.waiting(NORMAL)]
        return next((copy for copy in line if among is None or copy in among), None)

    def expired(self, now: float) -> list[Copy]:
        """What is not in hand and is too old."""
        free = [copy for copy in self.copies if copy.place != "held"]
        return [copy for copy in free if copy.expires is not None and copy.expires <= now]

    def add(self, copy: Copy) -> None:
        self.copies.append(copy)
        self.line(copy).append(copy)
        self.fate_of[copy.key] = "pending"

    def end(self, copy: Copy, fate: str) -> None:
        if copy.place == "waiting":
            self.line(copy).remove(copy)
        copy.place = "settled"
        self.copies.remove(copy)
        self.fates[copy.lane][fate] += 1
        self.fate_of[copy.key] = fate
        if fate == "dead_lettered":
            self.dead.append(copy)


class Model:
    """Says what must become of each message; `fate` None of a publication means that it waits for room.

    `by_number`: what comes back into a line takes its place there by publication, not before all others.
    `at_once`: who waited for room comes in while others are taken or expire, and may be taken or expire with
    them; else after that.
    """

    def __init__(
        self, policy: TopicPolicy, config: BusConfig, *, by_number: bool = False, at_once: bool = True
    ) -> None:
        self.policy = policy
        self.by_number = by_number
        self.at_once = at_once
        self.config = config
        self.groups = {name: ModelGroup() for name in policy.groups}
        self.seen: set[str] = set()
        self.parked: list[tuple[str, int, float | None, float]] = []
        self.answers: dict[str, str] = {}
        self.conservative = False
        self.last_cause = 0.0
        self.numbers = 0

    # What comes in

    def publish(self, key: str, priority: int, expires: float | None, now: float) -> str | None:
        lane, rank = RANK[priority]
        fate = "duplicate" if key in self.seen else self._decide(key, priority, lane, rank, expires)
        if lane == URGENT or fate == "rerouted" or self.depth() > self.config.conservative.high_mark:
            self._look(now)
        return fate

    def park(self, key: str, priority: int, expires: float | None, now: float) -> bool:
        if len(self.parked) >= self.policy.parked_max:
            self._turn_away(key, RANK[priority][0], "refused")
            return False
        self.parked.append((key, priority, expires, now + self.policy.wait_max_s))
        return True

    def unpark(self, key: str) -> None:
        self.parked = [ticket for ticket in self.parked if ticket[0] != key]

    def replay(self, name: str, key: str, expires: float | None) -> bool:
        group = self.groups[name]
        copy = next(copy for copy in reversed(group.dead) if copy.key == key)
        lane, rank = RANK[copy.priority]
        capacity = self.policy.capacity if lane == NORMAL else self.policy.urgent_capacity
        if (lane == NORMAL and self.conservative) or group.pending(lane) >= capacity:
            return False
        group.add(Copy(key, self._number(), copy.priority, lane, rank, expires))
        return True

    def leave(self, name: str, now: float) -> None:
        group = self.groups[name]
        held = [copy for copy in group.copies if copy.place == "held"]
        for copy in sorted(held, key=lambda copy: -copy.number):
            self._give_back(group, copy, 0, now)

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    def refuse(self, key: str) -> None:
        self._turn_away(key, NORMAL, "refused")

    def _decide(self, key: str, priority: int, lane: str, rank: int, expires: float | None) -> str | None:
        groups = self.groups.values()
        capacity = self.policy.capacity if lane == NORMAL else self.policy.urgent_capacity
        full = [group for group in groups if group.pending(lane) >= capacity]
        if lane == NORMAL and self.conservative:
            return self._turn_away(key, lane, "shed")
        if lane == URGENT and full:
            return self._turn_away(key, lane, "refused")
        if full or (self.parked and lane == NORMAL):
            return self._without_room(key, priority, rank, expires, full)
        for group in groups:
            group.add(Copy(key, self._number(), priority, lane, rank, expires))
        self.seen.add(key)
        return "accepted"

    def _without_room(
        self, key: str, priority: int, rank: int, expires: float | None, full: list[ModelGroup]
    ) -> str | None:
        if self.policy.overflow is Overflow.WAIT:
            return None
        if self.policy.overflow is Overflow.DROP_OLDEST and all(group.waiting(NORMAL) for group in full):
            for group in full:
                oldest = min(group.waiting(NORMAL), key=lambda copy: copy.number)
                group.end(oldest, "dropped")
            return self._decide(key, priority, NORMAL, rank, expires)
        if self.policy.overflow is Overflow.REROUTE and all(
            group.pending(URGENT) < self.policy.urgent_capacity
            and group.rerouted() < self.policy.reroute_capacity
            for group in full
        ):
            for group in self.groups.values():
                rerouted = group in full
                group.add(
                    Copy(key, self._number(), priority, URGENT, 2, expires, True)
                    if rerouted
                    else Copy(key, self._number(), priority, NORMAL, rank, expires)
                )
            self.seen.add(key)
            return "rerouted"
        return self._turn_away(key, NORMAL, "refused")

    def _turn_away(self, key: str, lane: str, fate: str) -> str:
        for group in self.groups.values():
            group.fates[lane][fate] += 1
            group.fate_of[key] = fate
        return fate

    # What goes out and comes back

    def take(self, name: str, limit: int, now: float) -> list[Copy]:
        group = self.groups[name]
        taken: list[Copy] = []
        there = set(group.copies)
        while len(taken) < limit and (copy := group.first(None if self.at_once else there)) is not None:
            if copy.expires is not None and copy.expires <= now:
                self._end(group, copy, "expired")
                continue
            group.line(copy).remove(copy)
            copy.place, copy.due = "held", now + self.policy.ack_deadline_s
            copy.attempts += 1
            taken.append(copy)
        return taken

    def ack(self, name: str, copy: Copy) -> None:
        if copy.place != "settled":
            self._end(self.groups[name], copy, "acked")

    def nack(self, name: str, copy: Copy, attempt: int, delay: float | None, now: float) -> None:
        if (copy.attempts, copy.place) == (attempt, "held"):
            self._give_back(self.groups[name], copy, delay, now)

    def extend(self, copy: Copy, attempt: int, due: float) -> None:
        if (copy.attempts, copy.place) == (attempt, "held"):
            copy.due = due

    def _give_back(self, group: ModelGroup, copy: Copy, delay: float | None, now: float) -> None:
        copy.place = "postponed"
        if copy.expires is not None and copy.expires <= now:
            self._end(group, copy, "expired")
        elif copy.attempts >= self.policy.attempts_max:
            self._end(group, copy, "dead_lettered")
        elif delay == 0:
            self._put_back(group, copy)
        else:
            backoff = self.policy.backoff_s
            copy.due = now + (backoff[min(copy.attempts, len(backoff)) - 1] if delay is None else delay)

    def _put_back(self, group: ModelGroup, copy: Copy) -> None:
        line = group.line(copy)
        before = [each for each in line if each.attempts and each.number < copy.number]
        copy.place = "waiting"
        line.insert(len(before) if self.by_number else 0, copy)

    def _end(self, group: ModelGroup, copy: Copy, fate: str) -> None:
        group.end(copy, fate)
        while self.parked and all(
            each.pending(NORMAL) < self.policy.capacity for each in self.groups.values()
        ):
            key, priority, expires, _ = self.parked.pop(0)
            parked, self.parked = self.parked, []
            duplicate = key in self.seen
            self.answers[key] = (
                "duplicate" if duplicate else str(self._decide(key, priority, *RANK[priority], expires))
            )
            self.parked = parked

    # What time does

    def tick(self, now: float) -> None:
        there = {copy for group in self.groups.values() for copy in group.copies}
        while self.parked and self.parked[0][3] <= now:
            key = self.parked.pop(0)[0]
            self.answers[key] = "refused"
            self.refuse(key)
        for group in self.groups.values():
            for copy in [copy for copy in group.copies if copy.place == "held" and copy.due <= now]:
                self._give_back(group, copy, None, now)
            # They make room for others, which may be too old themselves.
            while old := [copy for copy in group.expired(now) if self.at_once or copy in there]:
                for copy in old:
                    self._end(group, copy, "expired")
            due = [copy for copy in group.copies if copy.place == "postponed" and copy.due <= now]
            for copy in sorted(due, key=lambda copy: -copy.number):
                self._put_back(group, copy)
        self._look(now)
        marks = self.config.conservative
        if self.depth() < marks.low_mark and now - self.last_cause >= marks.dwell_s:
            self.conservative = False

    def depth(self) -> int:
        return sum(len(group.copies) for group in self.groups.values())

    def _look(self, now: float) -> None:
        urgent_full = any(g.pending(URGENT) >= self.policy.urgent_capacity for g in self.groups.values())
        if not (urgent_full or self.depth() > self.config.conservative.high_mark):
            return
        self.last_cause = now
        if not self.conservative:
            self.conservative = True
            for key, *_ in self.parked:
                self.answers[key] = "shed"
                self._turn_away(key, NORMAL, "shed")
            self.parked = []
