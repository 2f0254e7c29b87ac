"""The dead letters of one topic, oldest first, bounded in number and age."""

from collections import OrderedDict

from actors.oona.bus import DeadLetter
from actors.oona.entry import Entry


class Letters:
    """A letter id seen again replaces the older letter, which is let go."""

    __slots__ = ("_letters", "_letters_max", "_retention_s", "_topic", "let_go")

    def __init__(self, topic: str, letters_max: int, retention_s: float) -> None:
        self._topic = topic
        self._letters_max = letters_max
        self._retention_s = retention_s
        self._letters: OrderedDict[str, DeadLetter] = OrderedDict()
        self.let_go = 0

    def __len__(self) -> int:
        return len(self._letters)

    def bury(self, group: str, entry: Entry, now_s: float) -> None:
        """Keep a message whose attempts are used up."""
        publication = entry.publication
        letter = DeadLetter(
            letter_id=f"{self._topic}/{group}/{publication.event_id}",
            topic=self._topic,
            group=group,
            event_id=publication.event_id,
            priority=publication.priority,
            message=publication.message,
            attempts=entry.attempts,
            last_error=entry.last_error,
            died_s=now_s,
        )
        if self._letters.pop(letter.letter_id, None) is not None:
            self.let_go += 1
        self._letters[letter.letter_id] = letter
        if len(self._letters) > self._letters_max:
            self._let_first_go()

    def all(self) -> list[DeadLetter]:
        return list(self._letters.values())

    def get(self, letter_id: str) -> DeadLetter | None:
        return self._letters.get(letter_id)

    def remove(self, letter_id: str) -> None:
        del self._letters[letter_id]

    def tick(self, now_s: float, work_max: int) -> int:
        """Let go of what is older than the retention time; returns how many, at most `work_max`."""
        done = 0
        while done < work_max and self._letters:
            if now_s - next(iter(self._letters.values())).died_s < self._retention_s:
                break
            self._let_first_go()
            done += 1
        return done

    def _let_first_go(self) -> None:
        self._letters.popitem(last=False)
        self.let_go += 1
