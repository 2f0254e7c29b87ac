"""A storm whose faults are written down, so that only the order of things is left to chance.

The same happens in every order: what fails, and when an operator wants something. A seed draws how long each
piece of work takes and which of two ready tasks goes first. Without a seed everything that goes on beside
training is quick, and tasks run first in, first out: the order in which a race does not show.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.simulation.storm import Kind, Storm

DELAYS = frozenset({Kind.SLOW_POLICY, Kind.SLOW_JOURNAL})
"""Kinds that are no faults but take their time: without a seed there are none."""
BUSY = frozenset({"step length"})
"""What takes its longest without a seed: training. All else is quick."""
LATE = frozenset({"late"})
"""Streams of chance that are the order's, not the script's."""


@dataclass(frozen=True)
class Script:
    """What happens in every order."""

    epochs: int = 8
    strikes: Mapping[tuple[Kind, str], tuple[int, ...]] = field(default_factory=dict)
    """By kind and subject: the occasions, counted from 1, on which it fails."""
    at_s: Mapping[str, float] = field(default_factory=dict)
    """When, without a seed, what the weather brings comes; with one it comes at any time."""
    every_s: float = 0.0
    """Seconds from one checkpoint to the next."""
    delays: frozenset[Kind] = frozenset()
    """Kinds of `DELAYS` that may strike with a seed."""
    limit_s: float = 20.0
    """Virtual seconds after which a run that has not ended never will."""
    wishes: int = 0
    """Seed of the policy's own chance."""


class Plot(Storm):
    """The storm of a script, in the order of a seed; None is first in, first out."""

    def __init__(self, script: Script, order: int | None) -> None:
        self._script, self._order = script, order
        self._occasions: Counter[tuple[Kind, str]] = Counter()
        self._delays: dict[str, random.Random] = {}
        faults = frozenset(kind for kind, _ in script.strikes)
        super().__init__(script.wishes, faults | (frozenset() if order is None else script.delays))

    @property
    def epochs(self) -> int:
        return self._script.epochs

    def strikes(self, kind: Kind, subject: str, chance: float) -> bool:
        if kind in DELAYS:
            struck = kind in self.kinds and self._drawn(subject).random() < chance
        else:
            self._occasions[kind, subject] += 1
            struck = self._occasions[kind, subject] in self._script.strikes.get((kind, subject), ())
        self.struck[kind] += struck
        return struck

    def between(self, subject: str, least: float, most: float) -> float:
        if self._order is not None:
            return self._drawn(subject).uniform(least, most)
        return self._script.at_s.get(subject, most if subject in BUSY else least)

    def stream(self, subject: str) -> random.Random:
        return self._drawn(subject) if subject in LATE else super().stream(subject)

    def _drawn(self, subject: str) -> random.Random:
        if subject not in self._delays:
            self._delays[subject] = random.Random(f"{self._order}/{subject}")
        return self._delays[subject]

    def told(self) -> str:
        return f"{super().told()}, order {self._order}"
