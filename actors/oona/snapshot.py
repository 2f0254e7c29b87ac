"""Copies the bus's counters into the rows that `metrics()` returns."""

import copy
from collections.abc import Iterable

from actors.oona.conservative import Conservative
from actors.oona.load import Load
from actors.oona.metrics import BusMetrics, GroupRow, TopicRow, TopicState
from actors.oona.priority import Lane
from actors.oona.topic import Topic


def snapshot(topics: Iterable[Topic], load: Load, conservative: Conservative, now_s: float) -> BusMetrics:
    """All of it, at one moment."""
    topics = list(topics)
    return BusMetrics(
        depth=load.depth,
        depth_max=load.depth_max,
        conservative=conservative.active,
        conservative_cause=conservative.cause,
        conservative_entered=conservative.entered,
        topics=tuple(_state(topic, now_s) for topic in topics),
        published=tuple(row for topic in topics for row in _published(topic)),
        groups=tuple(row for topic in topics for row in _groups(topic)),
    )


def _state(topic: Topic, now_s: float) -> TopicState:
    members = [
        (group.name, consumer) for group in topic.groups.values() for consumer in group.consumers.values()
    ]
    return TopicState(
        topic=topic.name,
        parked=len(topic.parking.tickets),
        parked_max=topic.parking.count_max,
        breaker=topic.parking.breaker.state(now_s),
        dead_letters=len(topic.letters),
        dead_letters_let_go=topic.letters.let_go,
        consumers=tuple(f"{group}/{consumer.name}" for group, consumer in members),
        consumers_open=tuple(
            f"{group}/{consumer.name}" for group, consumer in members if not consumer.breaker.closed
        ),
    )


def _published(topic: Topic) -> list[TopicRow]:
    return [
        TopicRow(topic.name, Lane.URGENT, copy.copy(topic.books.urgent)),
        TopicRow(topic.name, Lane.NORMAL, copy.copy(topic.books.normal)),
    ]


def _groups(topic: Topic) -> list[GroupRow]:
    return [
        GroupRow(topic.name, group.name, queue.lane, copy.copy(queue.ledger), queue.latency.snapshot())
        for group in topic.groups.values()
        for queue in (group.urgent, group.normal)
    ]
