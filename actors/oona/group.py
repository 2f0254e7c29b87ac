"""A consumer group of one topic: who waits for what, who holds what, and what is done about it when.

Synchronous bookkeeping: the time is passed in, in seconds, and nothing here waits.
"""

from collections.abc import Callable, Sized

from actors.oona import texts
from actors.oona.agenda import Agenda
from actors.oona.consumer import Consumer
from actors.oona.entry import POSTPONED, SETTLED, WAITING, Entry, Publication
from actors.oona.hands import IN_HAND, Hands
from actors.oona.load import Load
from actors.oona.policy import TopicPolicy
from actors.oona.priority import Lane
from actors.oona.queue import LaneQueue


class Group:
    """`on_room` is called when a place is free and somebody is `parked`, `on_dead` with what is given up."""

    def __init__(
        self,
        name: str,
        policy: TopicPolicy,
        load: Load,
        parked: Sized,
        on_room: Callable[[], None],
        on_dead: Callable[[str, Entry, float], None],
    ) -> None:
        self.name = name
        self.consumers: dict[str, Consumer] = {}
        self.urgent = LaneQueue(name, Lane.URGENT, policy.urgent_capacity)
        self.normal = LaneQueue(name, Lane.NORMAL, policy.capacity)
        self._policy = policy
        self._load = load
        self._parked = parked
        self._on_room = on_room
        self._on_dead = on_dead
        self._hands = Hands()
        self._attended_s = 0.0
        self._postponed = Agenda(lambda ticket, entry: entry.place is POSTPONED and entry.ticket == ticket)
        self._expiring = Agenda(lambda _, entry: entry.place is not SETTLED)

    # Who is there

    def join(self, consumer: Consumer, now_s: float) -> None:
        """The caller has seen to it that the name is free."""
        if not self.consumers:
            self._attended_s = now_s
        self.consumers[consumer.name] = consumer

    # What comes in

    def admit(self, publication: Publication, queue: LaneQueue, rank: int) -> None:
        """Take a message; the caller has seen to it that there is room."""
        entry = Entry(publication, queue, rank)
        queue.admit(entry)
        self._load.add()
        if publication.expires_s is not None:
            self._expiring.push(publication.expires_s, entry)
        self.wake()

    def drop_oldest(self, queue: LaneQueue) -> None:
        """Make room in a lane; the caller has seen to it that something is waiting there."""
        entry = queue.oldest()
        assert entry is not None
        queue.ledger.dropped += 1
        self._settle(entry)

    def wake(self) -> None:
        """Tell those consumers that wait for a message."""
        for consumer in self.consumers.values():
            wake, consumer.wake = consumer.wake, None
            if wake is not None:
                wake()

    # What goes out

    def take(
        self,
        queue: LaneQueue,
        consumer: Consumer,
        limit: int,
        now_s: float,
        taken: list[tuple["Group", Entry]],
    ) -> None:
        """Append at most `limit` messages of one lane to `taken`; they are in the consumer's hands then."""
        while limit > 0 and (entry := queue.pop()) is not None:
            if entry.publication.expired(now_s):
                entry.place = POSTPONED  # it is out of the line
                self._expire(entry)
                continue
            self._hold(entry, queue, consumer, now_s)
            taken.append((self, entry))
            limit -= 1

    def _hold(self, entry: Entry, queue: LaneQueue, consumer: Consumer, now_s: float) -> None:
        entry.attempts += 1
        entry.due_s = now_s + self._policy.ack_deadline_s
        entry.since_s = now_s
        entry.holder = consumer.name
        self._hands.hold(entry)
        queue.ledger.delivered += 1
        if entry.attempts > 1:
            queue.ledger.redelivered += 1
        else:
            queue.latency.observe(now_s - entry.publication.published_s)

    # What consumers say

    def ack(self, entry: Entry, attempt: int) -> None:
        """Settle a message, also when the one who says so no longer holds it."""
        ledger = entry.queue.ledger
        late = not self._holds(entry, attempt)
        if late:
            ledger.late += 1
        if entry.place is SETTLED:
            return
        self._hands.release(entry)
        holder = self.consumers.get(entry.holder)
        if holder is not None and holder.breaker.failures:
            holder.breaker.succeeded()
        ledger.acked += 1
        self._settle(entry)

    def nack(
        self, entry: Entry, attempt: int, now_s: float, delay_s: float | None, error: str | None
    ) -> None:
        """Take a message back from the consumer that holds it; raises ValueError, with nothing changed."""
        texts.check_delay(delay_s, self._policy)
        if not self._holds(entry, attempt):
            entry.queue.ledger.late += 1
            return
        if error is not None:
            self._blame(entry, now_s)
            entry.last_error = error
        elif (holder := self.consumers.get(entry.holder)) is not None:
            holder.breaker.withdrawn()
        self._return(entry, now_s, delay_s)

    def extend(self, entry: Entry, attempt: int, now_s: float, deadline_s: float) -> None:
        """Let the holder keep it for `deadline_s` seconds from now; raises ValueError, nothing changed."""
        texts.check_deadline(deadline_s, self._policy)
        if not self._holds(entry, attempt):
            entry.queue.ledger.late += 1
            return
        self._hands.extend(entry, now_s + deadline_s)

    def leave(self, consumer: Consumer, now_s: float) -> None:
        """A consumer is gone: what it held goes to the others at once, its attempts counted."""
        del self.consumers[consumer.name]
        left_behind = [entry for entry in self._hands.entries() if entry.holder == consumer.name]
        for entry in sorted(left_behind, key=_number, reverse=True):  # so that the oldest comes to be first
            entry.last_error = entry.last_error or f"consumer {consumer.name} left with it in hand"
            self._return(entry, now_s, 0.0)

    # What time does

    def tick(self, now_s: float, work_max: int) -> int:
        """Act on what has fallen due; returns how many entries moved, at most `work_max`."""
        done = self._lapse(now_s, work_max)
        done += self._expire_due(now_s, work_max - done)
        done += self._bring_back(now_s, work_max - done)
        if self.urgent.waiting or self.normal.waiting:
            self.wake()  # also those whose breaker now lets a probe through
        return done

    def age_s(self, now_s: float) -> float:
        """Seconds that some message has waited for a consumer, or been in hand without a sign of life.

        Time in which nobody was subscribed is not counted, nor is a backoff: it is meant to last."""
        if not self.consumers:
            return 0.0
        oldest = [*self.urgent.heads(), *self.normal.heads(), *self._hands.longest_held()]
        return now_s - max(min((entry.since_s for entry in oldest), default=now_s), self._attended_s)

    def pending_ids(self) -> list[str]:
        """Event ids of what is unsettled, in no particular order."""
        return [entry.publication.event_id for entry in self._unsettled()]

    def abandon(self) -> None:
        """The group is over: settle what is unsettled, so that nobody can acknowledge it any longer."""
        for entry in self._unsettled():
            self._settle(entry)

    def _unsettled(self) -> list[Entry]:
        waiting = [*self.urgent.live(), *self.normal.live()]
        return [*waiting, *self._hands.entries(), *self._postponed.live()]

    def _lapse(self, now_s: float, work_max: int) -> int:
        lapsed = self._hands.lapsed(now_s, work_max)
        for entry in lapsed:
            self._blame(entry, now_s)
            entry.last_error = f"not acknowledged by {entry.holder} before its deadline"
            self._return(entry, now_s, None)
        return len(lapsed)

    def _expire_due(self, now_s: float, work_max: int) -> int:
        done = 0
        while done < work_max and (entry := self._expiring.pop_due(now_s)) is not None:
            done += 1
            if entry.place not in IN_HAND:  # in hand, it may still be finished
                self._expire(entry)
        return done

    def _bring_back(self, now_s: float, work_max: int) -> int:
        due: list[Entry] = []
        while len(due) < work_max and (entry := self._postponed.pop_due(now_s)) is not None:
            due.append(entry)
        for entry in sorted(due, key=_number, reverse=True):
            self._line_up(entry, now_s)
        return len(due)

    # Moves

    def _holds(self, entry: Entry, attempt: int) -> bool:
        return entry.place in IN_HAND and entry.attempts == attempt

    def _return(self, entry: Entry, now_s: float, delay_s: float | None) -> None:
        self._hands.release(entry)
        policy = self._policy
        entry.place = POSTPONED
        if entry.publication.expired(now_s):
            self._expire(entry)
        elif entry.attempts >= policy.attempts_max:
            entry.queue.ledger.dead_lettered += 1
            self._on_dead(self.name, entry, now_s)
            self._settle(entry)
        elif delay_s == 0:
            self._line_up(entry, now_s)
            self.wake()
        else:
            backoff_s = policy.backoff_s[min(entry.attempts, len(policy.backoff_s)) - 1]
            entry.due_s = now_s + (backoff_s if delay_s is None else delay_s)
            self._postponed.push(entry.due_s, entry)

    def _line_up(self, entry: Entry, now_s: float) -> None:
        entry.place = WAITING
        entry.since_s = now_s
        entry.queue.put_back(entry)

    def _expire(self, entry: Entry) -> None:
        entry.queue.ledger.expired += 1
        self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        entry.queue.settle(entry)
        self._load.remove()
        if self._parked:
            self._on_room()

    def _blame(self, entry: Entry, now_s: float) -> None:
        holder = self.consumers.get(entry.holder)
        if holder is not None:
            holder.failed(entry, now_s)


class LossyGroup(Group):
    """Holds nobody up: without room its own oldest goes, or it goes without what is new."""

    def admit(self, publication: Publication, queue: LaneQueue, rank: int) -> None:
        if not queue.full:
            super().admit(publication, queue, rank)
        elif queue.waiting:
            self.drop_oldest(queue)
            super().admit(publication, queue, rank)
        else:
            queue.ledger.published += 1
            queue.ledger.dropped += 1


def _number(entry: Entry) -> int:
    return entry.publication.number
