"""How each of the run's topics behaves: telemetry may be shed, reports wait, everything else is refused.

Only telemetry makes room for newer telemetry, and gets too old. What else was taken stays until every group
has settled it; what finds no room is refused to its publisher, who never waits for it: training goes on.

Each keeps as much of its past as somebody who comes late needs to see the run as those who were there.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from actors.oona.policy import BusConfig, Overflow, TopicPolicy
from contracts import topics

LISTENERS: Final = ("nissa",)
"""Groups that hear everything, from the first message to the last."""
WARDEN: Final = "warden"
"""The group of who acts on emergencies: a signal that was taken waits for it, whatever a server loses."""

TOPICS: Final[Mapping[str, TopicPolicy]] = {
    # As many as there are epochs while a server is away: a minute or more.
    topics.SYSTEM_STATE: TopicPolicy(capacity=1_000, overflow=Overflow.REJECT, history=400),
    topics.ADAPTATION_COMMAND: TopicPolicy(capacity=256, overflow=Overflow.REJECT, history=256),
    topics.FIELD_REPORT: TopicPolicy(capacity=1_000, overflow=Overflow.WAIT, history=256),
    # It bounds itself by forgetting, so that a slow listener is no reason to restrict the others.
    topics.TELEMETRY: TopicPolicy(
        capacity=1_000, overflow=Overflow.DROP_OLDEST, ttl_s=60.0, stall_after_s=None, history=1_000
    ),
    topics.EMERGENCY: TopicPolicy(capacity=64, overflow=Overflow.REROUTE, history=64),
    # What is wanted and what is there stands in the library: these only say when to look, so that a slow
    # listener is no reason to restrict the others.
    **dict.fromkeys(
        topics.KERNELS,
        TopicPolicy(capacity=512, overflow=Overflow.REJECT, stall_after_s=None, history=64),
    ),
}

RUN_BUS: Final = BusConfig(tick_s=0.25)
"""What holds for the whole bus of a run. A round of housekeeping takes some of training's time, and nothing
there is due to a tenth of a second."""


def run_topics() -> Mapping[str, TopicPolicy]:
    """The topics of a run, with those who hear everything; the same for whoever opens the run's bus."""
    policies = {name: replace(policy, groups=LISTENERS) for name, policy in TOPICS.items()}
    policies[topics.EMERGENCY] = replace(TOPICS[topics.EMERGENCY], groups=(*LISTENERS, WARDEN))
    return policies
