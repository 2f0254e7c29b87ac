"""What an operator asks of a run's dead letters, and the answers."""

from typing import Literal, TypeAlias

import msgspec

LetterWord: TypeAlias = Literal["list", "inspect", "replay", "drop"]


class LetterOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done with which letters."""

    what: LetterWord
    letter_ids: tuple[str, ...] = ()
    every: bool = False
    """All that are there now, but for what `topic` and `group` leave out."""
    topic: str | None = None
    group: str | None = None


class LetterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter."""

    letter_id: str
    topic: str
    group: str
    """Who gave it up."""
    event_id: str
    priority: str
    attempts: int
    error: str
    """Why it was given up."""
    died_s: float
    """When, in seconds since 1970 by the server's clock."""
    kind: str
    """Of its message; empty if that can't be read."""
    unreadable: str = ""
    """Why its message can't be read."""


class LettersListed(msgspec.Struct, frozen=True):
    """Oldest first, topic by topic."""

    run_id: str
    letters: tuple[LetterFacts, ...]


class LetterInspected(msgspec.Struct, frozen=True):
    """One letter with its message, enums by their names; None if it can't be read."""

    run_id: str
    letter: LetterFacts
    message: object


class LetterKept(msgspec.Struct, frozen=True):
    """A letter that nothing was done with, and why."""

    letter_id: str
    reason: str


class LettersHandled(msgspec.Struct, frozen=True):
    """What came of a replay or a drop, letter by letter."""

    run_id: str
    what: LetterWord
    done: tuple[str, ...]
    kept: tuple[LetterKept, ...]


LettersAnswer: TypeAlias = LettersListed | LetterInspected | LettersHandled
