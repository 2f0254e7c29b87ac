"""What was answered to which command, so that a repeat gets the same answer; bounded."""

from collections.abc import Iterable

import msgspec

from contracts.growth import GateVerdict
from contracts.messages import AdaptationCommand

OUTCOMES_MAX = 1024
"""Outcomes kept; the oldest goes first. Older repeats are caught by their deadline."""


class Outcome(msgspec.Struct, frozen=True):
    """The answer that one command got."""

    command: AdaptationCommand
    applied: bool
    refusal: str = ""
    gates: tuple[GateVerdict, ...] = ()


class Outcomes:
    """The newest outcomes by command id."""

    def __init__(self, kept: Iterable[Outcome] = (), limit: int = OUTCOMES_MAX) -> None:
        self._limit = limit
        self._by_id: dict[str, Outcome] = {}
        """The oldest first."""
        for outcome in kept:
            self.keep(outcome)

    def get(self, command_id: str) -> Outcome | None:
        return self._by_id.get(command_id)

    def keep(self, outcome: Outcome) -> None:
        """Store it as the newest; the first answer to a command stays its answer."""
        self._by_id.setdefault(outcome.command.command_id, outcome)
        while len(self._by_id) > self._limit:
            del self._by_id[next(iter(self._by_id))]

    def all(self) -> tuple[Outcome, ...]:
        """The oldest first."""
        return tuple(self._by_id.values())
