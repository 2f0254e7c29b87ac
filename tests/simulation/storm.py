"""What goes wrong in one simulated run: every fault, when and how badly, drawn from one seed."""

import random
from collections import Counter
from enum import StrEnum


class Planted(Exception):
    """A fault that the storm raised; anything else that is raised is a finding."""


class Kind(StrEnum):
    """What may go wrong; a storm has some of them."""

    SLOW_POLICY = "slow policy"
    DYING_POLICY = "dying policy"
    NONSENSE = "nonsense"
    ILLEGAL = "illegal wishes"
    ENGINE = "engine fails"
    REPORTS = "reports fail"
    DISPLAY = "display fails"
    BUS = "bus keeper fails"
    JOB = "job fails"
    DIVERGES = "training diverges"
    RESTORE = "going back fails"
    DISK = "disk fails"
    ORDERS = "orders"
    NOT_FINITE = "not finite"
    SLOW_JOB = "slow job"
    FLOOD = "flood"
    CONSUMERS = "consumers die"
    STALL = "loop stalls"
    WALL_CLOCK = "wall clock jumps"
    STOP = "stop"
    CUT = "cut off"
    SLOW_JOURNAL = "slow journal"


KIND_CHANCE = 0.35
"""Chance that a storm has one kind of fault."""
CALM_CHANCE = 0.1
"""Chance of a run in which nothing goes wrong."""


class Storm:
    """The faults of one run. Each subject draws from a stream of its own, so that one changes no other."""

    def __init__(self, seed: int, kinds: frozenset[Kind] | None = None) -> None:
        self.seed = seed
        self.struck: Counter[Kind] = Counter()
        self._streams: dict[str, random.Random] = {}
        chosen = self.stream("kinds")
        calm = chosen.random() < CALM_CHANCE
        drawn = frozenset(kind for kind in Kind if chosen.random() < KIND_CHANCE and not calm)
        self.kinds = drawn if kinds is None else kinds

    def stream(self, subject: str) -> random.Random:
        """The stream of chance of one subject."""
        if subject not in self._streams:
            self._streams[subject] = random.Random(f"{self.seed}/{subject}")
        return self._streams[subject]

    @property
    def epochs(self) -> int:
        """How long the run is."""
        return self.stream("length").randint(4, 24)

    def strikes(self, kind: Kind, subject: str, chance: float) -> bool:
        """Whether a fault of this kind happens here and now."""
        struck = self.stream(subject).random() < chance and kind in self.kinds
        self.struck[kind] += struck
        return struck

    def fail(self, kind: Kind, subject: str, chance: float) -> None:
        """Raise `Planted` if this kind strikes."""
        if self.strikes(kind, subject, chance):
            raise Planted(f"{kind} in {subject}")

    def between(self, subject: str, least: float, most: float) -> float:
        """A number for `subject`."""
        return self.stream(subject).uniform(least, most)

    def told(self) -> str:
        """The kinds by name, for a report."""
        return ", ".join(sorted(self.kinds)) or "calm"
