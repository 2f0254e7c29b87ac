"""One topic: whether a message is taken, by all its groups or by none, and what happens without room.

Synchronous bookkeeping: the time is passed in, in seconds, and nothing here waits.
"""

from typing import Final

from actors.oona.books import Books
from actors.oona.breaker import Breaker
from actors.oona.bus import DeadLetter, Outcome, Receipt
from actors.oona.conservative import Conservative
from actors.oona.consumer import Consumer
from actors.oona.entry import Publication
from actors.oona.errors import BusError, QueueFullError, RefusedError, WaitExpiredError
from actors.oona.group import Group
from actors.oona.letters import Letters
from actors.oona.load import Load
from actors.oona.parking import Answer, Parking, Ticket
from actors.oona.policy import BusConfig, Overflow, TopicPolicy
from actors.oona.priority import LOWEST_URGENT, RANK, REROUTED_RANK
from actors.oona.queue import LaneQueue
from actors.oona.seen import SeenIds

_ACCEPTED: Final = Outcome.ACCEPTED  # to look it up on its enum takes longer than most of what is done here


class Topic:
    """Its groups, those who wait for room in them, and the ids and dead letters it remembers."""

    def __init__(
        self, name: str, policy: TopicPolicy, config: BusConfig, load: Load, conservative: Conservative
    ) -> None:
        self.name = name
        self.policy = policy
        self.groups: dict[str, Group] = {}
        self.books = Books(self.groups)
        self.parking = Parking(name, policy.parked_max, policy.wait_max_s, Breaker(config.breaker))
        self.letters = Letters(name, policy.dead_letters_max, policy.retention_s)
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
            self.books.unrouted(publication)
            return Outcome.UNROUTED
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
        full = "; ".join(group.normal.described() for group in self.groups.values() if group.normal.full)
        waits = self.policy.overflow is Overflow.WAIT
        advice = "await publish, which waits for room" if waits else "try again when its consumers caught up"
        return QueueFullError(f"{self.name} can't take {publication.event_id}: {full}; {advice}")

    def _offer_urgent(self, publication: Publication) -> Outcome:
        full = [group.urgent.described() for group in self.groups.values() if group.urgent.full]
        if full:
            self.books.refused(publication)
            what = f"{self.name} can't take {publication.event_id}: {'; '.join(full)}"
            raise QueueFullError(f"{what}; try again when urgent messages have been acknowledged")
        rank = RANK[publication.priority]
        for group in self.groups.values():
            group.admit(publication, group.urgent, rank)
        self._seen.add(publication.event_id)
        self.books.accepted(publication)
        return _ACCEPTED

    def _accept(self, publication: Publication) -> Outcome:
        rank = RANK[publication.priority]
        for group in self.groups.values():
            group.admit(publication, group.normal, rank)
        if self.parking.breaker.failures:
            self.parking.breaker.succeeded()
        self._seen.add(publication.event_id)
        self.books.accepted(publication)
        return _ACCEPTED

    def _has_room(self) -> bool:
        for group in self.groups.values():
            normal = group.normal
            if normal.ledger.pending >= normal.capacity:
                return False
        return True

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
        full = [group for group in self.groups.values() if group.normal.full]
        if not all(group.normal.waiting for group in full):
            raise self.full_error(publication)  # it is all in hand or postponed
        for group in full:
            group.drop_oldest()
        return self._accept(publication)

    def _reroute(self, publication: Publication) -> Outcome:
        groups = self.groups.values()
        if not all(self._may_reroute(group.urgent) for group in groups if group.normal.full):
            raise self.full_error(publication)
        for group in groups:
            if group.normal.full:
                group.admit(publication, group.urgent, REROUTED_RANK)
            else:
                group.admit(publication, group.normal, RANK[publication.priority])
        self._seen.add(publication.event_id)
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
            self.books.unrouted(publication)
            return Outcome.UNROUTED
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

    def join(self, group_name: str, consumer: Consumer) -> Group:
        """Put a consumer into a group, made now if there is none; raises ValueError, with nothing changed."""
        group = self.groups.get(group_name)
        members = {} if group is None else group.consumers
        if consumer.name in members:
            raise ValueError(
                f"consumer {consumer.name} is in group {group_name} of {self.name} already; "
                "close its subscription first, or take another name"
            )
        if len(members) >= self._config.consumers_max:
            raise ValueError(
                f"consumer {consumer.name} can't join group {group_name} of {self.name}: {len(members)} are "
                "there, as many as may (consumers_max)"
            )
        if group is None:
            group = self._make_group(group_name)
        group.consumers[consumer.name] = consumer
        return group

    def leave(self, group: Group, consumer: Consumer, now_s: float) -> None:
        """Take a consumer out; an undeclared group ends with its last one, and what it had pending too."""
        group.leave(consumer, now_s)
        if not group.consumers and group.name not in self.policy.groups:
            del self.groups[group.name]
            group.abandon()

    def _make_group(self, name: str) -> Group:
        if len(self.groups) >= self._config.groups_max:
            raise ValueError(
                f"group {name} can't be made: {self.name} has {len(self.groups)}, as many as may (groups_max)"
            )
        group = Group(name, self.policy, self._load, self.parking.tickets, self._fill, self.letters.bury)
        self.groups[name] = group
        return group

    # Dead letters

    def replay(self, letter: DeadLetter, publication: Publication) -> None:
        """Queue a dead letter again; raises RefusedError if it can't be taken now, with nothing changed."""
        group = self.groups[letter.group]
        urgent = letter.priority >= LOWEST_URGENT
        queue = group.urgent if urgent else group.normal
        what = f"{letter.letter_id} stays a dead letter"
        if self._conservative.active and not urgent:
            raise self._conservative.refusal(what)
        if queue.full:
            raise QueueFullError(f"{what}: {queue.described()}; try again when its consumers have caught up")
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
            what = f"{self.name} had no room for {ticket.publication.event_id}"
            waited = f"within {self.policy.wait_max_s:g} s (wait_max_s)"
            ticket.answer(WaitExpiredError(f"{what} {waited}; add consumers, or try again later"))
        return done

    def cause(self, now_s: float) -> str:
        """What speaks for conservative mode here; empty if nothing does."""
        stall_s = self.policy.stall_after_s
        for group in self.groups.values():
            if group.urgent.full:
                return f"{self.name}: {group.urgent.described()}"
            if stall_s is not None and (age_s := group.age_s(now_s)) > stall_s:
                return f"{self.name}: group {group.name} has left a message unacknowledged for {age_s:.1f} s"
        return ""
