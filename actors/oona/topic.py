"""One topic: whether a message is taken, by all its groups or by none, and what happens without room.

Synchronous bookkeeping: the time is passed in, in seconds, and nothing here waits.
"""

from collections import deque
from typing import Final

from actors.oona import texts
from actors.oona.books import Books
from actors.oona.bus import DeadLetter, Outcome, Past, Receipt
from actors.oona.conservative import Conservative
from actors.oona.consumer import Consumer
from actors.oona.entry import Publication
from actors.oona.errors import BusError, QueueFullError, RefusedError
from actors.oona.group import Group, LossyGroup
from actors.oona.letters import Letters
from actors.oona.load import Load
from actors.oona.parking import Answer, Parking, Ticket
from actors.oona.policy import BusConfig, Overflow, TopicPolicy
from actors.oona.priority import LOWEST_URGENT, RANK, REROUTED_RANK
from actors.oona.queue import LaneQueue
from actors.oona.seen import SeenIds
from esper.breaker import Breaker

_ACCEPTED: Final = Outcome.ACCEPTED  # to look it up on its enum takes longer than most of what is done here


class Topic:
    """Its groups, those who wait for room in them, and the ids and dead letters it remembers."""

    def __init__(
        self, name: str, policy: TopicPolicy, config: BusConfig, load: Load, conservative: Conservative
    ) -> None:
        self.name = name
        self.policy = policy
        self.groups: dict[str, Group] = {}
        self._strict: list[Group] = []  # those that hold publishers up when they are full
        self.books = Books(self.groups)
        self.parking = Parking(
            name,
            policy.parked_max,
            policy.wait_max_s,
            Breaker(config.breaker.failures_max, config.breaker.open_s),
        )
        self.letters = Letters(name, policy.dead_letters_max, policy.retention_s)
        self.taken: deque[Publication] | None = deque(maxlen=policy.history) if policy.history else None
        self._config = config
        self._load = load
        self._conservative = conservative
        self._seen = SeenIds(config.dedup_ids_max)
        for group in policy.groups:
            self._make_group(group)

    # Publishing

    def offer(self, publication: Publication) -> Outcome | None:
        """Take the message, or raise RefusedError; None if its publisher would have to wait for room."""
        if publication.event_id in self._seen:
            self.books.duplicate(publication)
            return Outcome.DUPLICATE
        if not self.groups:
            return self._unrouted(publication)
        if publication.priority >= LOWEST_URGENT:
            return self._offer_urgent(publication)
        if self._conservative.active:
            self.books.shed(publication)
            raise self._conservative.refusal(f"{self.name} can't take {publication.event_id}")
        if not self._has_room():
            return self._overflow(publication)
        return self._accept(publication)

    def park(self, publication: Publication, now_s: float, answer: Answer) -> Ticket:
        """Let the publisher wait for room; raises RefusedError if it may not."""
        try:
            return self.parking.park(publication, now_s, answer)
        except RefusedError:
            self.books.refused(publication)
            raise

    def full_error(self, publication: Publication) -> QueueFullError:
        """Count a message as refused for want of room; the error to raise."""
        self.books.refused(publication)
        full = [group.normal.described() for group in self._strict if group.normal.full]
        return texts.normal_full(self.name, publication.event_id, full, self.policy.overflow)

    def _offer_urgent(self, publication: Publication) -> Outcome:
        full = [group.urgent.described() for group in self._strict if group.urgent.full]
        if full:
            self.books.refused(publication)
            raise texts.urgent_full(self.name, publication.event_id, full)
        rank = RANK[publication.priority]
        for group in self.groups.values():
            group.admit(publication, group.urgent, rank)
        self._remember(publication)
        self.books.accepted(publication)
        return _ACCEPTED

    def _accept(self, publication: Publication) -> Outcome:
        rank = RANK[publication.priority]
        for group in self.groups.values():
            group.admit(publication, group.normal, rank)
        if self.parking.breaker.failures:
            self.parking.breaker.succeeded()
        self._remember(publication)
        self.books.accepted(publication)
        return _ACCEPTED

    def _remember(self, publication: Publication) -> None:
        self._seen.add(publication.event_id)
        if self.taken is not None:
            self.taken.append(publication)

    def _unrouted(self, publication: Publication) -> Outcome:
        if self.taken is not None:
            self.taken.append(publication)
        self.books.unrouted(publication)
        return Outcome.UNROUTED

    def _has_room(self) -> bool:
        for group in self._strict:
            normal = group.normal
            if normal.ledger.pending >= normal.capacity:
                return False
        return True

    def history(self) -> list[Past]:
        """The newest messages taken, oldest first."""
        return [
            Past(each.event_id, each.priority, each.message, each.published_s) for each in self.taken or ()
        ]

    # Without room

    def _overflow(self, publication: Publication) -> Outcome | None:
        match self.policy.overflow:
            case Overflow.WAIT:
                return None
            case Overflow.REJECT:
                raise self.full_error(publication)
            case Overflow.DROP_OLDEST:
                return self._drop_oldest(publication)
            case Overflow.REROUTE:
                return self._reroute(publication)

    def _drop_oldest(self, publication: Publication) -> Outcome:
        full = [group for group in self._strict if group.normal.full]
        if not all(group.normal.waiting for group in full):
            raise self.full_error(publication)  # it is all in hand or postponed
        for group in full:
            group.drop_oldest(group.normal)
        return self._accept(publication)

    def _reroute(self, publication: Publication) -> Outcome:
        full = [group for group in self._strict if group.normal.full]
        if not all(self._may_reroute(group.urgent) for group in full):
            raise self.full_error(publication)
        for group in self.groups.values():
            if group in full:
                group.admit(publication, group.urgent, REROUTED_RANK)
            else:
                group.admit(publication, group.normal, RANK[publication.priority])
        self._remember(publication)
        self.books.rerouted(publication)
        return Outcome.REROUTED

    def _may_reroute(self, urgent: LaneQueue) -> bool:
        return not urgent.full and urgent.rerouted < self.policy.reroute_capacity

    def _fill(self) -> None:
        """Give free places to those who wait for them, in order."""
        while self.parking.tickets and self._has_room():
            ticket = self.parking.first()
            ticket.answer(Receipt(ticket.publication.event_id, self._outcome_of_waiting(ticket.publication)))

    def _outcome_of_waiting(self, publication: Publication) -> Outcome:
        if publication.event_id in self._seen:
            self.books.duplicate(publication)
            return Outcome.DUPLICATE
        if not self.groups:
            return self._unrouted(publication)
        return self._accept(publication)

    def send_away(self) -> None:
        """Conservative mode begins: nobody waits for room in the normal lane any longer."""
        while self.parking.tickets:
            ticket = self.parking.first()
            self.books.shed(ticket.publication)
            what = f"{self.name} can't take {ticket.publication.event_id}"
            ticket.answer(self._conservative.refusal(what))

    def close(self, error: BusError) -> None:
        """Refuse those who wait."""
        while self.parking.tickets:
            ticket = self.parking.first()
            self.books.refused(ticket.publication)
            ticket.answer(error)

    # Groups

    def join(self, group_name: str, consumer: Consumer, lossy: bool, now_s: float) -> Group:
        """Put a consumer into a group, made now if there is none; raises ValueError, with nothing changed."""
        group = self.groups.get(group_name)
        members = {} if group is None else group.consumers
        if consumer.name in members:
            raise texts.name_taken(consumer.name, group_name, self.name)
        if len(members) >= self._config.consumers_max:
            raise texts.too_many_consumers(consumer.name, group_name, self.name, len(members))
        if group is None:
            group = self._make_group(group_name, lossy)
        group.join(consumer, now_s)
        return group

    def leave(self, group: Group, consumer: Consumer, now_s: float) -> None:
        """Take a consumer out; an undeclared group ends with its last one, and what it had pending too."""
        group.leave(consumer, now_s)
        if not group.consumers and group.name not in self.policy.groups:
            del self.groups[group.name]
            if group in self._strict:
                self._strict.remove(group)
            group.abandon()

    def _make_group(self, name: str, lossy: bool = False) -> Group:
        if len(self.groups) >= self._config.groups_max:
            raise texts.too_many_groups(name, self.name, len(self.groups))
        kind, load = (LossyGroup, Load()) if lossy else (Group, self._load)
        group = kind(name, self.policy, load, self.parking.tickets, self._fill, self.letters.bury)
        self.groups[name] = group
        if not lossy:
            self._strict.append(group)
        return group

    # Dead letters

    def replay(self, letter: DeadLetter, publication: Publication) -> None:
        """Queue a dead letter again; raises RefusedError if it can't be taken now, with nothing changed."""
        group = self.groups[letter.group]
        urgent = letter.priority >= LOWEST_URGENT
        queue = group.urgent if urgent else group.normal
        if self._conservative.active and not urgent:
            raise self._conservative.refusal(f"{letter.letter_id} stays a dead letter")
        if queue.full:
            raise texts.letter_without_room(letter.letter_id, queue.described())
        self.letters.remove(letter.letter_id)
        queue.ledger.replayed += 1
        group.admit(publication, queue, RANK[letter.priority])

    # Time

    def tick(self, now_s: float, work_max: int) -> int:
        """Refuse those who waited too long, let old letters go; returns how many, at most `work_max`."""
        done = self.letters.tick(now_s, work_max)
        while done < work_max and (ticket := self.parking.first_overdue(now_s)) is not None:
            done += 1
            self.books.refused(ticket.publication)
            event_id = ticket.publication.event_id
            ticket.answer(texts.wait_expired(self.name, event_id, self.policy.wait_max_s))
        return done

    def cause(self, now_s: float) -> str:
        """What speaks for conservative mode here; empty if nothing does."""
        stall_s = self.policy.stall_after_s
        for group in self._strict:
            if group.urgent.full:
                return f"{self.name}: {group.urgent.described()}"
            if stall_s is not None and (age_s := group.age_s(now_s)) > stall_s:
                return f"{self.name}: group {group.name} has left a message unacknowledged for {age_s:.1f} s"
        return ""
