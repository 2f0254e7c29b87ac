"""Messages that nobody will handle: kept to be looked at, bounded, and all of them counted."""

from collections import deque

import msgspec

DEAD_LETTERS_MAX = 1000
"""Dead letters kept; older ones are forgotten but stay counted."""


class DeadLetter(msgspec.Struct, frozen=True):
    """One message, whom it was for, and why it was not handled."""

    actor: str
    message: object
    cause: str
    at_wall_ns: int


class DeadLetters:
    """The newest dead letters of one system."""

    def __init__(self, kept_max: int = DEAD_LETTERS_MAX) -> None:
        self.count = 0
        self._kept: deque[DeadLetter] = deque(maxlen=kept_max)

    def add(self, letter: DeadLetter) -> None:
        """Keep `letter`, at the cost of the oldest if there are too many."""
        self.count += 1
        self._kept.append(letter)

    def listed(self) -> list[DeadLetter]:
        """Those kept, oldest first."""
        return list(self._kept)
