"""The event ids a topic has taken of late, in bounded memory."""

from collections import deque


class SeenIds:
    """Remembers the last `ids_max` ids."""

    __slots__ = ("_ids", "_ids_max", "_order")

    def __init__(self, ids_max: int) -> None:
        self._ids_max = ids_max
        self._ids: set[str] = set()
        self._order: deque[str] = deque()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def __len__(self) -> int:
        return len(self._order)

    def add(self, event_id: str) -> None:
        """Remember an id that is not remembered yet."""
        self._ids.add(event_id)
        self._order.append(event_id)
        if len(self._order) > self._ids_max:
            self._ids.discard(self._order.popleft())
