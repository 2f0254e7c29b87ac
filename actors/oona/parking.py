"""Publishers that wait for room in a topic, in the order in which they came."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from actors.oona.bus import Receipt
from actors.oona.entry import Publication
from actors.oona.errors import BreakerOpenError, BusError, ParkingFullError
from esper.breaker import Breaker

Answer: TypeAlias = Callable[[Receipt | BusError], None]


class Ticket:
    """One parked publisher; `answer` is called once, with its receipt or the reason why it gets none."""

    __slots__ = ("answer", "probe", "publication", "until_s")

    def __init__(self, publication: Publication, until_s: float, probe: bool, answer: Answer) -> None:
        self.publication = publication
        self.until_s = until_s
        self.probe = probe  # whether the breaker waits for what becomes of it
        self.answer = answer


class Parking:
    """Bounded in places and time. All wait equally long, so the first to come is the first to give up.

    The breaker opens when one publisher after the other has waited in vain: then none may wait for a while. A
    message for which there is room never needs to ask it.
    """

    __slots__ = ("_places", "_topic", "_wait_max_s", "breaker", "count_max", "tickets")

    def __init__(self, topic: str, places: int, wait_max_s: float, breaker: Breaker) -> None:
        self.breaker = breaker
        self.count_max = 0
        self._topic = topic
        self._places = places
        self._wait_max_s = wait_max_s
        self.tickets: OrderedDict[int, Ticket] = OrderedDict()

    def park(self, publication: Publication, now_s: float, answer: Answer) -> Ticket:
        """Let a publisher wait; raises ParkingFullError or BreakerOpenError if it may not."""
        if len(self.tickets) >= self._places:
            raise ParkingFullError(
                f"{publication.event_id} can't wait for room in {self._topic}: {len(self.tickets)} do, "
                "as many as may (parked_max); publish more slowly, or try again later"
            )
        if not self.breaker.permits(now_s, 1):
            raise BreakerOpenError(
                f"{publication.event_id} can't wait for room in {self._topic}: {self.breaker.failures} did "
                f"in vain, one after the other; try again in {self.breaker.retry_in(now_s):.1f} s"
            )
        probe = not self.breaker.closed
        if probe:
            self.breaker.began()
        ticket = Ticket(publication, now_s + self._wait_max_s, probe, answer)
        self.tickets[publication.number] = ticket
        self.count_max = max(self.count_max, len(self.tickets))
        return ticket

    def unpark(self, ticket: Ticket) -> None:
        """The publisher gave up by itself: as if it had never come, unless it has its answer already."""
        if self.tickets.pop(ticket.publication.number, None) is not None:
            self._forget(ticket)

    def first(self) -> Ticket:
        """Out of the parking, to be taken or sent away; there must be one."""
        ticket = self.tickets.popitem(last=False)[1]
        self._forget(ticket)
        return ticket

    def first_overdue(self, now_s: float) -> Ticket | None:
        """Out of the parking, having waited in vain."""
        if not self.tickets or next(iter(self.tickets.values())).until_s > now_s:
            return None
        self.breaker.failed(now_s)
        return self.tickets.popitem(last=False)[1]

    def _forget(self, ticket: Ticket) -> None:
        if ticket.probe:
            self.breaker.withdrawn()
