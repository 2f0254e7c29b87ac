"""What was heard and is not on the disk yet: the bus keeps it for whoever comes after a kill.

    heard ─▶ pledged ─▶ marked, behind its lines in the journal ─▶ landed ─▶ acknowledged

A disk that is slow or fails does not make the bus keep more: what waits too long, or is too much, is
acknowledged all the same.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from actors.nissa.journal import Journal
from actors.oona.bus import Delivery
from actors.runtime.clock import Clock

HELD_MAX = 128
"""Deliveries that wait for the disk; a topic's group has room for twice as many."""
HELD_S = 1.0
"""Seconds that they do; a bus takes a reader for stalled some time after that."""


@dataclass
class _Batch:
    """Deliveries whose lines come before one mark."""

    deliveries: list[Delivery]
    marked_s: float
    landed: bool = False

    def land(self) -> None:
        """The mark is on the disk; called by the journal's thread."""
        self.landed = True


class Pledge:
    """Acknowledges deliveries in the order in which they were heard; lives on the event loop."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._heard: list[Delivery] = []
        self._marked: deque[_Batch] = deque()
        self._held = 0

    def add(self, delivery: Delivery) -> None:
        """Its line is written, and perhaps not on the disk."""
        self._heard.append(delivery)
        self._held += 1
        if self._held > HELD_MAX:
            self.redeem_all()

    def redeem(self) -> None:
        """Acknowledge what has come to the disk, or has waited for long enough; mark what is new."""
        late_s = self._clock.monotonic() - HELD_S
        while self._marked and (
            self._marked[0].landed or self._marked[0].marked_s < late_s or self._journal.broken
        ):
            self._acknowledge(self._marked.popleft().deliveries)
        if not self._heard:
            return
        batch, self._heard = _Batch(self._heard, self._clock.monotonic()), []
        if self._journal.mark(batch.land):
            self._marked.append(batch)
        else:
            self._acknowledge(batch.deliveries)

    def redeem_all(self) -> None:
        """Acknowledge everything, wherever it is."""
        while self._marked:
            self._acknowledge(self._marked.popleft().deliveries)
        heard, self._heard = self._heard, []
        self._acknowledge(heard)

    def _acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            delivery.ack()
            self._held -= 1
