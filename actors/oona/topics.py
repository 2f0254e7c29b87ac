"""How each of the run's topics behaves: telemetry may be lost, commands are refused, reports wait.

Each keeps as much of its past as somebody who comes late needs to see the run as those who were there.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from actors.oona.policy import BusConfig, Overflow, TopicPolicy
from contracts import topics

LISTENERS: Final = ("nissa",)
"""Groups that hear everything, from the first message to the last."""

TOPICS: Final[Mapping[str, TopicPolicy]] = {
    topics.SYSTEM_STATE: TopicPolicy(capacity=256, overflow=Overflow.DROP_OLDEST, ttl_s=60.0, history=400),
    topics.ADAPTATION_COMMAND: TopicPolicy(capacity=256, overflow=Overflow.REJECT, history=256),
    topics.FIELD_REPORT: TopicPolicy(capacity=1_000, overflow=Overflow.WAIT, history=256),
    # It bounds itself by forgetting, so that a slow listener is no reason to restrict the others.
    topics.TELEMETRY: TopicPolicy(
        capacity=1_000, overflow=Overflow.DROP_OLDEST, ttl_s=60.0, stall_after_s=None, history=1_000
    ),
    topics.EMERGENCY: TopicPolicy(capacity=64, overflow=Overflow.REROUTE, history=64),
    # What is wanted and what is there stands in the library: these only say when to look.
    **dict.fromkeys(
        topics.KERNELS,
        TopicPolicy(capacity=512, overflow=Overflow.DROP_OLDEST, ttl_s=600.0, stall_after_s=None, history=64),
    ),
}

RUN_BUS: Final = BusConfig(tick_s=0.25)
"""What holds for the whole bus of a run. A round of housekeeping takes some of training's time, and nothing
there is due to a tenth of a second."""


def run_topics() -> Mapping[str, TopicPolicy]:
    """The topics of a run, with those who hear everything; the same for whoever opens the run's bus."""
    return {name: replace(policy, groups=LISTENERS) for name, policy in TOPICS.items()}
