"""What an instrument is, and the ways in which one reads plain numbers.

A `Reading` is everything there is to show at one moment. An instrument is a name, a unit, a
sentence and a function from a reading to samples; nothing here knows an exporter.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum, StrEnum
from typing import TypeAlias, TypeVar

import msgspec

from actors.nissa.counters import Histogram, RunCounters
from actors.oona.histogram import BOUNDS_S
from actors.oona.ledger import GroupLedger, TopicLedger
from actors.oona.metrics import BusMetrics, LinkRow
from actors.oona.priority import Lane
from actors.runtime.snapshot import ActorSnapshot, LaneSnapshot, SystemSnapshot

K = TypeVar("K", bound=str | IntEnum)
Labels: TypeAlias = dict[str, str]
Sample: TypeAlias = tuple[Labels, float]

TOPIC = "messaging.destination.name"
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.005, 0.025, 0.1, 1.0, 30.0)
"""Each is also a bound of the bus's own histograms, so that theirs can be merged exactly."""


class Reading(msgspec.Struct, frozen=True):
    """Everything that the instruments show, as it is at one moment."""

    run: RunCounters
    system: SystemSnapshot | None = None
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


def table(label: str, of: Callable[[RunCounters], Mapping[K, int]]) -> Callable[[Reading], Iterable[Sample]]:
    """A dictionary of the run: its keys are the values of `label`."""
    return lambda reading: [({label: _word(key)}, count) for key, count in of(reading.run).items()]


def spread(
    of: Callable[[RunCounters], Histogram], **labels: str
) -> Callable[[Reading], Iterable[Distribution]]:
    """One histogram of the run."""

    def read(reading: Reading) -> Iterable[Distribution]:
        histogram = of(reading.run)
        return (Distribution(labels, histogram.bounds, tuple(histogram.counts), histogram.total),)

    return read


def actors(of: Callable[[ActorSnapshot], int]) -> Callable[[Reading], Iterable[Sample]]:
    """One number of each actor."""

    def read(reading: Reading) -> Iterable[Sample]:
        return (
            [({"actor": actor.name}, of(actor)) for actor in reading.system.actors] if reading.system else ()
        )

    return read


def lanes(of: Callable[[LaneSnapshot], int]) -> Callable[[Reading], Iterable[Sample]]:
    """One number of each actor's mailbox, its two lanes together."""
    return actors(lambda actor: of(actor.normal) + of(actor.urgent))


def operation(name: str) -> Labels:
    """The labels that the conventions want of a messaging client's operation."""
    return {"messaging.system": "oona", "messaging.operation.name": name}


def topics(
    of: Callable[[TopicLedger], int], more: Labels | None = None
) -> Callable[[Reading], Iterable[Sample]]:
    """What each topic of the bus decided, by lane; a lane that was never used is left out."""

    def read(reading: Reading) -> Iterable[Sample]:
        rows = reading.bus.published if reading.bus else ()
        return [
            ({TOPIC: row.topic, "lane": row.lane.value, **(more or {})}, of(row.ledger))
            for row in rows
            if row.ledger.published
        ]

    return read


def groups(
    of: Callable[[GroupLedger], int], more: Labels | None = None
) -> Callable[[Reading], Iterable[Sample]]:
    """What became of the messages of each topic, by lane, summed over the topic's groups."""

    def read(reading: Reading) -> Iterable[Sample]:
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for row in reading.bus.groups if reading.bus else ():
            if row.ledger.published:
                sums[row.topic, row.lane.value] += of(row.ledger)
        return [
            ({TOPIC: topic, "lane": lane, **(more or {})}, count) for (topic, lane), count in sums.items()
        ]

    return read


def link(of: Callable[[LinkRow], int]) -> Callable[[Reading], Iterable[Sample]]:
    """A figure of the connection to the server that carries the bus; nothing in memory."""

    def read(reading: Reading) -> Iterable[Sample]:
        row = reading.bus.link if reading.bus else None
        return () if row is None else (({}, of(row)),)

    return read


def refused_frames(reading: Reading) -> Iterable[Sample]:
    """Frames that came in and were refused, by reason."""
    row = reading.bus.link if reading.bus else None
    return [({"reason": reason}, count) for reason, count in row.refused.items()] if row else []


def latencies(reading: Reading) -> Iterable[Distribution]:
    """How long messages waited on the bus, a lane at a time, merged over topics and groups."""
    merged = {lane: [0] * (len(LATENCY_BUCKETS_S) + 1) for lane in Lane}
    totals = dict.fromkeys(Lane, 0.0)
    for row in reading.bus.groups if reading.bus else ():
        totals[row.lane] += row.latency.sum_s
        for bucket, count in zip(_MERGED_BUCKET, row.latency.counts, strict=True):
            merged[row.lane][bucket] += count
    return [
        Distribution({"lane": lane.value}, LATENCY_BUCKETS_S, tuple(counts), totals[lane])
        for lane, counts in merged.items()
    ]


_MERGED_BUCKET = tuple(bisect_left(LATENCY_BUCKETS_S, bound) for bound in (*BOUNDS_S, math.inf))


def _word(key: str | IntEnum) -> str:
    return key.name.lower() if isinstance(key, IntEnum) else key
