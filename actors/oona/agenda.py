"""Entries in the order in which something is due for them."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

from actors.oona.entry import Entry

_SMALL: Final = 64  # entries; below this an agenda is not worth tidying


class Agenda:
    """A heap in which what is no longer so is skipped, and swept out when it may be the larger half.

    `is_live` is asked with the number that the entry had as its `ticket` when it was pushed: a later push is
    another ticket, also when it is due at the same moment. Holds at most `2 * live + 64` items, so it is
    bounded by the capacity of its group.
    """

    __slots__ = ("_heap", "_is_live", "_tickets", "_tidy_at")

    def __init__(self, is_live: Callable[[int, Entry], bool]) -> None:
        self._is_live = is_live
        self._heap: list[tuple[float, int, Entry]] = []
        self._tickets = count(1)
        self._tidy_at = _SMALL

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, due_s: float, entry: Entry) -> None:
        entry.ticket = next(self._tickets)
        heapq.heappush(self._heap, (due_s, entry.ticket, entry))
        if len(self._heap) > self._tidy_at:
            self._tidy()

    def pop_due(self, now_s: float) -> Entry | None:
        """The live entry that was due first, if any is due."""
        heap = self._heap
        while heap and heap[0][0] <= now_s:
            _, ticket, entry = heapq.heappop(heap)
            if self._is_live(ticket, entry):
                return entry
        return None

    def live(self) -> list[Entry]:
        return [entry for _, ticket, entry in self._heap if self._is_live(ticket, entry)]

    def _tidy(self) -> None:
        self._heap = [item for item in self._heap if self._is_live(item[1], item[2])]
        heapq.heapify(self._heap)
        self._tidy_at = _SMALL + 2 * len(self._heap)
