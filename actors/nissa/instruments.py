"""Every instrument of the system: its name, unit and one sentence, and where its figures come from.

All are read, none is called: a `Reading` holds plain numbers, and each row of `NUMBERS` and
`DISTRIBUTIONS` says which of them it shows. Units are seconds and bare counts; what is a share is
named `ratio`; label values come from small fixed sets, never an epoch or a run id. Where the
`messaging.*` conventions have a name for what the bus does, it has that name.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias

import msgspec

from actors.nissa.counters import RunCounters
from actors.nissa.counters import Histogram as Counted
from actors.oona.histogram import BOUNDS_S
from actors.oona.metrics import BusMetrics, GroupRow, TopicRow

Labels: TypeAlias = dict[str, str]
Sample: TypeAlias = tuple[Labels, float]

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.005, 0.025, 0.1, 1.0, 30.0)
"""Every one is also a bound of the bus's own histogram, so that its counts can be merged exactly."""


class ActorRow(Protocol):
    """What the actor runtime shows of one actor."""

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
    """A histogram's plain numbers; `counts` has one more entry than `bounds_s`, for what is above."""

    labels: Labels
    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    total_s: float


class Kind(StrEnum):
    """What a number does: only grow, or go up and down."""

    COUNTER = "counter"
    GAUGE = "gauge"


class Number(msgspec.Struct, frozen=True):
    """An instrument with one number a label set."""

    kind: Kind
    name: str
    unit: str
    meaning: str
    read: Callable[[Reading], Iterable[Sample]]
    labels: tuple[str, ...] = ()


class Spread(msgspec.Struct, frozen=True):
    """An instrument with one histogram, in seconds, a label set."""

    name: str
    meaning: str
    read: Callable[[Reading], Iterable[Distribution]]
    labels: tuple[str, ...] = ()


def _one(value: Callable[[RunCounters], float]) -> Callable[[Reading], Iterable[Sample]]:
    return lambda reading: (({}, value(reading.run)),)


def _counted(histogram: Callable[[RunCounters], Counted]) -> Callable[[Reading], Iterable[Distribution]]:
    return lambda reading: (_distribution({}, histogram(reading.run)),)


def _distribution(labels: Labels, histogram: Counted) -> Distribution:
    return Distribution(labels, histogram.bounds, tuple(histogram.counts), histogram.total)


def _by(
    label: str, table: Callable[[RunCounters], dict[str, int]]
) -> Callable[[Reading], Iterable[Sample]]:
    return lambda reading: [({label: key}, count) for key, count in table(reading.run).items()]
