"""The bus's figures: the server's books as last heard, and what this process knows itself."""

from collections.abc import Mapping, Sequence

from actors.oona.ledger import GroupLedger, TopicLedger
from actors.oona.metrics import BusMetrics, GroupRow, LinkRow, TopicRow, TopicState
from actors.oona.priority import Lane
from actors.oona.redis.inbox import Inbox
from actors.oona.redis.topics import KnownTopic
from actors.oona.redis.wire import Head, ServerLedger, TopicStats

NEVER = Head("ok", "", 0, False, "", 0, 0, 0)
"""Before the server said anything."""


def metrics(
    head: Head,
    stats: Sequence[TopicStats],
    topics: Mapping[str, KnownTopic],
    consumers_open: Mapping[str, tuple[str, ...]],
    inbox: Inbox,
    link: LinkRow,
    now_s: float,
) -> BusMetrics:
    """One snapshot of all of it."""
    heard = {each.topic: each for each in stats}
    return BusMetrics(
        depth=head.depth,
        depth_max=head.depth_max,
        conservative=head.conservative,
        conservative_cause=head.cause,
        conservative_entered=head.entered,
        topics=tuple(
            _state(topic, heard.get(name), consumers_open.get(name, ()), now_s)
            for name, topic in topics.items()
        ),
        published=tuple(row for name in topics for row in _published(name, heard.get(name))),
        groups=tuple(row for name in topics for row in _groups(heard.get(name), inbox)),
        link=link,
    )


def _state(
    topic: KnownTopic, stats: TopicStats | None, consumers_open: tuple[str, ...], now_s: float
) -> TopicState:
    groups = stats.groups if stats is not None else []
    return TopicState(
        topic=topic.name,
        parked=len(topic.parking.tickets),
        parked_max=topic.parking.count_max,
        breaker=topic.parking.breaker.state(now_s),
        dead_letters=stats.letters if stats is not None else 0,
        dead_letters_let_go=stats.let_go if stats is not None else 0,
        consumers=tuple(f"{group.group}/{name}" for group in groups for name in group.consumers),
        consumers_open=consumers_open,
    )


def _published(topic: str, stats: TopicStats | None) -> list[TopicRow]:
    urgent, normal = (stats.urgent, stats.normal) if stats is not None else (TopicLedger(), TopicLedger())
    return [TopicRow(topic, Lane.URGENT, urgent), TopicRow(topic, Lane.NORMAL, normal)]


def _groups(stats: TopicStats | None, inbox: Inbox) -> list[GroupRow]:
    if stats is None:
        return []
    return [
        GroupRow(
            stats.topic,
            group.group,
            lane,
            _plain(ledger),
            inbox.latencies(group.group)[stats.topic, lane.value].snapshot(),
        )
        for group in stats.groups
        for lane, ledger in ((Lane.URGENT, group.urgent), (Lane.NORMAL, group.normal))
    ]


def _plain(ledger: ServerLedger) -> GroupLedger:
    """Without what only the server's ledger has."""
    return GroupLedger(**{name: getattr(ledger, name) for name in GroupLedger.__struct_fields__})
