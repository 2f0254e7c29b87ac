"""How each of the run's topics behaves: telemetry may be lost, commands are refused, reports wait."""

from collections.abc import Mapping
from typing import Final

from actors.oona.policy import Overflow, TopicPolicy
from contracts import topics

TOPICS: Final[Mapping[str, TopicPolicy]] = {
    topics.SYSTEM_STATE: TopicPolicy(capacity=256, overflow=Overflow.DROP_OLDEST, ttl_s=60.0),
    topics.ADAPTATION_COMMAND: TopicPolicy(capacity=256, overflow=Overflow.REJECT),
    topics.FIELD_REPORT: TopicPolicy(capacity=1_000, overflow=Overflow.WAIT),
    # It bounds itself by forgetting, so that a slow listener is no reason to restrict the others.
    topics.TELEMETRY: TopicPolicy(
        capacity=1_000, overflow=Overflow.DROP_OLDEST, ttl_s=60.0, stall_after_s=None, packable=True
    ),
    topics.EMERGENCY: TopicPolicy(capacity=64, overflow=Overflow.REROUTE),
}
