"""A small run to show: counters, two actors, a bus with one topic; and a way to wait."""

import asyncio
import time
from collections.abc import Callable

from actors.nissa.counters import RunCounters
from actors.nissa.reading import Reading
from actors.oona.histogram import Histogram
from actors.oona.ledger import GroupLedger, TopicLedger
from actors.oona.metrics import BusMetrics, GroupRow, LinkRow, TopicRow
from actors.oona.priority import Lane
from actors.runtime.snapshot import ActorSnapshot, ActorState, LaneSnapshot, SystemSnapshot
from tests.actors.oona.patience import PATIENCE_S


def reading(run: RunCounters) -> Reading:
    return Reading(run, system(), bus())


def measured() -> RunCounters:
    """Counters with a finite figure everywhere."""
    run = RunCounters()
    training = run.training
    training.loss = training.validation_loss = training.validation_accuracy = training.learning_rate = 0.5
    return run


def system() -> SystemSnapshot:
    return SystemSnapshot(
        at_wall_ns=0, actors=(_actor("tamiyo"), _actor("nissa")), open_asks=0, dead_letters=0
    )


def bus() -> BusMetrics:
    """`reports` has two groups; its urgent lane was never used."""
    topic = TopicLedger(published=5, accepted=4, refused=1)
    waited = Histogram()
    for seconds in (0.00004, 0.0007, 0.5, 500.0):
        waited.observe(seconds)
    rows = [
        GroupRow(
            "reports", group, Lane.NORMAL, GroupLedger(published=4, acked=3, pending=1), waited.snapshot()
        )
        for group in ("tamiyo", "simic")
    ]
    unused = GroupRow("reports", "simic", Lane.URGENT, GroupLedger(), Histogram().snapshot())
    return BusMetrics(
        depth=2,
        depth_max=4,
        conservative=False,
        conservative_cause="",
        conservative_entered=0,
        topics=(),
        published=(TopicRow("reports", Lane.NORMAL, topic), TopicRow("reports", Lane.URGENT, TopicLedger())),
        groups=(*rows, unused),
        link=LinkRow(
            connected=True,
            since_s=0.0,
            reconnects=2,
            outbox=3,
            outbox_lost=1,
            retained=5,
            uncertain=0,
            refused={"bad_mac": 4},
        ),
    )


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until `condition` holds."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, f"it did not come to that in {PATIENCE_S:g} s"
        await asyncio.sleep(0)


def _actor(name: str) -> ActorSnapshot:
    normal = LaneSnapshot(depth=3, capacity=9, high_water=4, parked=0, refused=0, dropped=2)
    urgent = LaneSnapshot(depth=1, capacity=9, high_water=1, parked=0, refused=0, dropped=0)
    return ActorSnapshot(
        name=name,
        state=ActorState.RUNNING,
        critical=False,
        asks=(),
        normal=normal,
        urgent=urgent,
        handled=7,
        failed=0,
        expired=0,
        unhandled=0,
        restarts=1,
        rate_per_s=0.0,
    )
