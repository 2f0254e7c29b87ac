"""What is in the hands of a group's consumers, and until when."""

from itertools import islice

from actors.oona.agenda import Agenda
from actors.oona.entry import EXTENDED, HELD, Entry

IN_HAND = (HELD, EXTENDED)


class Hands:
    """Deadlines of first holds come in the order in which they were set; those of extensions in any order."""

    __slots__ = ("_extended", "_held")

    def __init__(self) -> None:
        self._held: dict[int, Entry] = {}  # by publication number
        self._extended = Agenda(lambda ticket, entry: entry.place is EXTENDED and entry.ticket == ticket)

    def hold(self, entry: Entry) -> None:
        entry.place = HELD
        self._held[entry.publication.number] = entry

    def extend(self, entry: Entry, due_s: float) -> None:
        self._held.pop(entry.publication.number, None)
        entry.place = EXTENDED
        entry.due_s = due_s
        self._extended.push(due_s, entry)

    def release(self, entry: Entry) -> None:
        """Out of the hands; the caller gives it its next place."""
        self._held.pop(entry.publication.number, None)

    def lapsed(self, now_s: float, count_max: int) -> list[Entry]:
        """At most `count_max` entries whose deadline has passed; the caller releases them."""
        lapsed = [entry for entry in islice(self._held.values(), count_max) if entry.due_s <= now_s]
        while len(lapsed) < count_max and (entry := self._extended.pop_due(now_s)) is not None:
            lapsed.append(entry)
        return lapsed

    def longest_held(self) -> list[Entry]:
        """The entry that was handed out first and not extended since, if there is one."""
        return list(islice(self._held.values(), 1))

    def entries(self) -> list[Entry]:
        return [*self._held.values(), *self._extended.live()]
