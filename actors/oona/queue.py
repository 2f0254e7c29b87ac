"""The waiting line of one lane of one group: first come first served within a rank, ranks in order."""

from collections import deque
from typing import Final

from actors.oona import texts
from actors.oona.entry import SETTLED, WAITING, Entry
from actors.oona.histogram import Histogram
from actors.oona.ledger import GroupLedger
from actors.oona.priority import RANKS, REROUTED_RANK, Lane

_SMALL: Final = 64  # entries; fewer settled ones than this are left in the line


class LaneQueue:
    """Counts what is unsettled against its capacity, wherever it is; lines up what is waiting.

    An entry that is settled while it waits stays in the line as a gap, to be skipped; when gaps are the
    larger half they are swept out.
    """

    __slots__ = (
        "_gaps",
        "_lines",
        "_rerouted_rank",
        "capacity",
        "group",
        "lane",
        "latency",
        "ledger",
        "rerouted",
    )

    def __init__(self, group: str, lane: Lane, capacity: int) -> None:
        self.group = group
        self.lane = lane
        self.capacity = capacity
        self.ledger = GroupLedger()
        self.latency = Histogram()
        self.rerouted = 0  # unsettled messages that were rerouted into this lane
        self._lines: tuple[deque[Entry], ...] = tuple(deque() for _ in range(RANKS))
        self._gaps = 0
        self._rerouted_rank = REROUTED_RANK if lane is Lane.URGENT else None

    @property
    def full(self) -> bool:
        return self.ledger.pending >= self.capacity

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lines)) - self._gaps

    def described(self) -> str:
        """Its state, for an error message."""
        return texts.described(self.lane.value, self.group, self.ledger.pending, self.waiting, self.capacity)

    def admit(self, entry: Entry) -> None:
        """A new message, at the end of the line. The caller has seen to it that there is room."""
        ledger = self.ledger
        ledger.published += 1
        ledger.pending += 1
        if ledger.pending > ledger.pending_max:
            ledger.pending_max = ledger.pending
        if entry.rank == self._rerouted_rank:
            self.rerouted += 1
        self._lines[entry.rank].append(entry)

    def put_back(self, entry: Entry) -> None:
        """A message that was here before, at the head of its line."""
        self._lines[entry.rank].appendleft(entry)

    def pop(self) -> Entry | None:
        """The next in line, out of the line."""
        for line in self._lines:
            while line:
                entry = line.popleft()
                if entry.place is WAITING:
                    return entry
                self._gaps -= 1
        return None

    def heads(self) -> list[Entry]:
        """The first in line of each rank that has any."""
        for line in self._lines:
            while line and line[0].place is not WAITING:
                line.popleft()
                self._gaps -= 1
        return [line[0] for line in self._lines if line]

    def oldest(self) -> Entry | None:
        """The waiting entry that was published first."""
        return min(self.heads(), key=lambda entry: entry.publication.number, default=None)

    def live(self) -> list[Entry]:
        """All that is waiting, in the order in which it would be taken."""
        return [entry for line in self._lines for entry in line if entry.place is WAITING]

    def settle(self, entry: Entry) -> None:
        """Free the entry's place."""
        if entry.place is WAITING:
            self._gaps += 1
        entry.place = SETTLED
        self.ledger.pending -= 1
        if entry.rank == self._rerouted_rank:
            self.rerouted -= 1
        if self._gaps > _SMALL and self._gaps > self.waiting:
            self._sweep()

    def _sweep(self) -> None:
        self._lines = tuple(deque(entry for entry in line if entry.place is WAITING) for line in self._lines)
        self._gaps = 0
