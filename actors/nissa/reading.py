"""What an instrument is, and the ways in which one reads plain numbers.

A `Reading` is everything there is to show at one moment. An instrument is a name, a unit, a
sentence and a function from a reading to samples; nothing here knows an exporter.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, StrEnum
from typing import Protocol, TypeAlias

import msgspec

from actors.nissa.counters import Histogram, RunCounters
from actors.oona.histogram import BOUNDS_S
from actors.oona.ledger import GroupLedger, TopicLedger
from actors.oona.metrics import BusMetrics

Labels: TypeAlias = dict[str, str]
Sample: TypeAlias = tuple[Labels, float]

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.005, 0.025, 0.1, 1.0, 30.0)
"""Each is also a bound of the bus's own histograms, so that theirs can be merged exactly."""


class ActorRow(Protocol):
    """What the actor runtime shows of one actor; the counts are since its system began."""

    @property
    def address(self) -> str: ...
    @property
    def depth(self) -> int: ...
    @property
    def handled(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def restarts(self) -> int: ...


class Reading(msgspec.Struct, frozen=True):
    """Everything that the instruments show, as it is at one moment."""

    run: RunCounters
    actors: Sequence[ActorRow] = ()
    bus: BusMetrics | None = None


class Distribution(msgspec.Struct, frozen=True):
    """One histogram's plain numbers; `counts` has an entry more than `bounds_s`, for what is above."""

    labels: Labels
    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    total_s: float


class Kind(StrEnum):
    """What a number does: only grow, or also fall."""

    COUNTER = "counter"
    GAUGE = "gauge"


class Number(msgspec.Struct, frozen=True):
    """An instrument that shows one number for each set of labels."""

    kind: Kind
    name: str
    unit: str
    labels: tuple[str, ...]
    meaning: str
    read: Callable[[Reading], Iterable[Sample]]


class Spread(msgspec.Struct, frozen=True):
    """An instrument that shows one histogram, in seconds, for each set of labels."""

    name: str
    labels: tuple[str, ...]
    meaning: str
    read: Callable[[Reading], Iterable[Distribution]]


def value(of: Callable[[RunCounters], float]) -> Callable[[Reading], Iterable[Sample]]:
    """One number of the run, without labels."""
    return lambda reading: (({}, of(reading.run)),)


def table(label: str, of: Callable[[RunCounters], Mapping[str, int]]) -> Callable[[Reading], Iterable[Sample]]:
    """A dictionary of the run: its keys are the values of `label`."""
    return lambda reading: [({label: _word(key)}, count) for key, count in of(reading.run).items()]


def enum_table(
    label: str, of: Callable[[RunCounters], Mapping[Enum, int]]
) -> Callable[[Reading], Iterable[Sample]]:
    """A dictionary of the run by an enumeration: its members' names are the values of `label`."""
    return lambda reading: [({label: key.name.lower()}, count) for key, count in of(reading.run).items()]
