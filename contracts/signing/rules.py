"""Which of the two admission rules holds for a topic, and who may speak on it."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from contracts import topics


class Rule(StrEnum):
    """What a topic's messages do to who reads them; the package's docstring has the rules."""

    ACTS = "acts"
    INFORMS = "informs"


class TopicRule(msgspec.Struct, frozen=True):
    """How frames of a topic are admitted."""

    rule: Rule
    senders: frozenset[str] | None = None
    """Who may speak here; None: whoever holds a key."""


INFORMING = frozenset({topics.SYSTEM_STATE, topics.FIELD_REPORT, topics.TELEMETRY})
"""Topics whose backlog may be read hours later."""


def topic_rules(names: Iterable[str] = topics.ALL) -> dict[str, TopicRule]:
    """The rules of these topics; one that is not known to inform acts, which is the stricter."""
    return {name: TopicRule(Rule.INFORMS if name in INFORMING else Rule.ACTS) for name in names}
