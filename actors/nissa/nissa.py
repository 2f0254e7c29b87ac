"""Nissa acts: hears everything that is published, writes the event log, and keeps the display fresh."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import get_args

import msgspec

from actors.display import Display
from actors.hearing import consumer_in
from actors.nissa.counters import RunCounters
from actors.nissa.journal import Journal, Line
from actors.nissa.pledge import Pledge
from actors.oona.bus import Bus, Delivery, Subscription
from actors.runtime import Actor, ActorError, ActorRef, handles
from actors.runtime.clock import Clock
from contracts import topics
from contracts.control import ReportsRead
from contracts.messages import FieldReport, TelemetryPacket
from contracts.view import EventKind, RunView
from esper.tolaria.loop import SAMPLE_EVERY, Sample

BATCH = 64
"""Messages taken from the bus at a time."""
LAST_BATCHES_MAX = 160
"""Batches taken at the end; more is left on the bus."""
DISPLAY_EVERY_S = 0.5
DRAIN_EVERY_S = 0.25
LISTEN_EVERY_S = 0.1
"""Seconds that a bus without a full batch is left alone: to go for each message costs training several times
what it takes to write down a few at once."""

EVENT_KINDS: Mapping[str, EventKind] = {kind: kind for kind in get_args(EventKind)}


class Refresh(msgspec.Struct, frozen=True):
    """Show the run as it is."""


class Drain(msgspec.Struct, frozen=True):
    """Take what the training thread has left in its queue."""


class Heard(msgspec.Struct, frozen=True):
    """A message came over the bus."""


@dataclass(frozen=True, slots=True)
class Lookout:
    """What Nissa watches and what it writes to; all of it outlives a restart."""

    bus: Bus
    clock: Clock
    counters: RunCounters
    samples: deque[Sample]
    display: Display
    view: Callable[[], RunView]
    quiet: Callable[[], bool]
    journal: Journal
    reports: ActorRef[ReportsRead]
    """Is told which field reports have been taken down."""


class Nissa(Actor[Heard | Refresh | Drain]):
    """Not critical: a run goes on unseen."""

    critical = False

    def __init__(self, lookout: Lookout) -> None:
        self._at = lookout
        self._subscription: Subscription | None = None
        self._listening: asyncio.Task[None] | None = None
        self._in_hand: deque[Delivery] = deque()
        """Taken from the bus and not looked at yet; a stop loses none of them."""
        self._pledge = Pledge(lookout.journal, lookout.clock)

    async def on_start(self) -> None:
        self._subscription = self._at.bus.subscribe(topics.ALL, "nissa", consumer_in("nissa", self._at.clock))
        self._listening = asyncio.create_task(self._listen(self._subscription), name="nissa-listens")
        self.context.every(DISPLAY_EVERY_S, Refresh())
        self.context.every(DRAIN_EVERY_S, Drain())

    async def on_stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        try:
            while self._in_hand:
                self._hear(self._in_hand.popleft())
            if self._subscription is not None:
                await self._hear_the_rest(self._subscription)
            await self._at.journal.settle()
        finally:  # else the next instance could not take its place
            self._pledge.redeem_all()  # before it leaves, or what it has heard would be given out again
            if self._subscription is not None:
                self._subscription.close()
        self._acknowledge()

    @handles
    async def on_heard(self, _: Heard) -> None:
        if self._in_hand:
            self._hear(self._in_hand.popleft())

    @handles
    async def on_refresh(self, _: Refresh) -> None:
        if not self._at.quiet():
            self._at.display.update(self._at.view())

    @handles
    async def on_drain(self, _: Drain) -> None:
        samples, counters = self._at.samples, self._at.counters
        newest: Sample | None = None
        while samples:
            newest = samples.popleft()
            counters.telemetry_read += 1
        if newest is not None:
            training = counters.training
            training.steps, training.loss, training.learning_rate = newest[:3]
            counters.telemetry_dropped = max(0, newest.step // SAMPLE_EVERY + 1 - counters.telemetry_read)
        self._pledge.redeem()
        self._acknowledge()

    async def _listen(self, subscription: Subscription) -> None:
        while True:
            deliveries = await subscription.receive(BATCH)
            self._in_hand.extend(deliveries)
            for _ in deliveries:
                await self.context.me.tell(Heard())
            if len(deliveries) < BATCH:
                await self._at.clock.sleep(LISTEN_EVERY_S)

    async def _hear_the_rest(self, subscription: Subscription) -> None:
        """What was published by now, as far as a bounded number of batches takes it."""
        await self._at.bus.flush()
        for _ in range(LAST_BATCHES_MAX):
            deliveries = await subscription.receive(BATCH, wait_s=0)
            if not deliveries:
                return
            for delivery in deliveries:
                self._hear(delivery)

    def _acknowledge(self) -> None:
        """Say which field reports are on the disk; what nobody hears of comes again, and is said again."""
        taken = self._at.journal.taken()
        if taken:
            with suppress(ActorError):
                self._at.reports.tell_nowait(ReportsRead(taken))

    def _hear(self, delivery: Delivery) -> None:
        try:
            self._take_down(delivery)
        except BaseException:
            with delivery:  # gives it back
                raise
        self._pledge.add(delivery)  # it went well, and is acknowledged once it is on the disk

    def _take_down(self, delivery: Delivery) -> None:
        message = delivery.message
        line = Line(self._at.clock.wall_ns(), delivery.topic, delivery.event_id, message)
        if not self._at.journal.write(line):
            return
        match message:
            case TelemetryPacket(events=events):
                for event in events:
                    kind = EVENT_KINDS.get(event.attributes.get("kind", ""), "info")
                    epoch = event.attributes.get("epoch", "")
                    self._at.display.event(event.description, kind, int(epoch) if epoch.isdecimal() else None)
            case FieldReport(outcome=outcome):
                self._at.counters.growth.field_reports[outcome] += 1
            case _:
                pass
