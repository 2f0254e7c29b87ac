"""The dead letters of one topic, oldest first, bounded in number and age."""

from collections import OrderedDict

from actors.oona.bus import DeadLetter


class Letters:
    """A letter id seen again replaces the older letter."""

    __slots__ = ("_letters", "_letters_max", "_retention_s", "let_go")

    def __init__(self, letters_max: int, retention_s: float) -> None:
        self._letters_max = letters_max
        self._retention_s = retention_s
        self._letters: OrderedDict[str, DeadLetter] = OrderedDict()
        self.let_go = 0

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, letter: DeadLetter) -> None:
        self._letters.pop(letter.letter_id, None)
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
