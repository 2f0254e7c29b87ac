"""The observer acts: finds a run in the registry, reads what its bus has kept, follows it, and retells it.

    choose a run ─▶ join its bus ─▶ read the history ─▶ follow messages and signs of life ─▶ its end

Its group ends with it and holds nobody up: what it does not take in time is dropped. Whatever it misses,
because it was stopped, the server went away or its group forgot, it reads again from the history; the
picture takes everything twice.
"""

import asyncio
import secrets
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from actors.oona.bus import Bus, Delivery, Subscription
from actors.oona.errors import BusError, RefusedError, UnreachableError
from actors.oona.open import KEPT_S, Door, Registry, check, keeping_house, open_bus, open_registry
from actors.retelling import Retelling
from actors.runtime.clock import Clock, LoopClock
from actors.runtime.signals import StopSignals
from contracts import topics
from contracts.registry import ListedRun
from contracts.view import EventKind, RunView
from esper.observer.belief import SET_SECRETS, Belief, Unbelieved
from esper.observer.choice import NoSuchRun, chosen, chosen_or_newest
from esper.observer.picture import Picture
from esper.observer.vigil import Lull, Vigil

HEARD: Final = (topics.SYSTEM_STATE, topics.TELEMETRY, topics.EMERGENCY)
"""Topics that the picture is folded from."""
BATCH: Final = 256
"""Messages taken from the bus at a time."""
LAST_BATCHES_MAX: Final = 40
RECEIVE_S: Final = 0.25
"""Seconds that a look at the bus waits for messages; as long may leaving take."""
SHOW_EVERY_S: Final = 0.5
LOOK_EVERY_S: Final = 1.0
"""Seconds between two looks into the registry."""
EVENTS_SHOWN: Final = 20
"""Newest events in a picture that is shown once."""
WAS_STOPPED_S: Final = 3.0
"""An observer that stood still this long reads the history again."""


class NotObserved(Exception):
    """There is nothing to be seen; the message says why, and what would help."""


@dataclass(frozen=True)
class Place:
    """Where an observer works."""

    registry: Registry
    retelling: Retelling
    clock: Clock
    stop: asyncio.Event
    """Set when it shall leave."""

    @property
    def leaving(self) -> bool:
        return self.stop.is_set() or self.retelling.unheard

    async def pause(self, seconds: float) -> None:
        """Until `seconds` have passed, or it shall leave."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)


async def find(place: Place, wanted: str | None, *, waits: bool) -> ListedRun | None:
    """The run that is meant, waiting for one to begin if none is named; None if it shall leave before.

    Raises:
        NoSuchRun: no run is called so, or there is none at all and `waits` is false.
        UnreachableError: the registry can't be reached.
    """
    runs = await place.registry.runs()
    told = False
    while not place.leaving:
        run = chosen(runs, wanted) if waits else chosen_or_newest(runs, wanted)
        if run is not None:
            return run
        if not told:
            place.retelling.note(_waiting(runs), "info")
            told = True
        await place.pause(LOOK_EVERY_S)
        with suppress(UnreachableError):  # it was there before: it may come back
            runs = await place.registry.runs()
    return None


def _waiting(runs: Sequence[ListedRun]) -> str:
    ended = next((run.entry.run_id for run in runs if run.entry.ended is not None), None)
    help_ = f"; --run {ended} shows the newest that has ended" if ended is not None else ""
    return f"no run lives there now; waiting for one to begin{help_}"


def observe_run(way: Door, wanted: str | None, retelling: Retelling, *, once: bool) -> signal.Signals | None:
    """Find a run and follow it, or show it once; gives the signal that ended this, if one did.

    Raises:
        NotObserved: there is no such run, its messages can't be believed, or the server can't be had.
    """
    try:
        return asyncio.run(_observe_run(way, wanted, retelling, once))
    except (NoSuchRun, Unbelieved, BusError) as error:
        raise NotObserved(str(error)) from None


async def _observe_run(
    way: Door, wanted: str | None, retelling: Retelling, once: bool
) -> signal.Signals | None:
    clock, stop = LoopClock(asyncio.get_running_loop()), asyncio.Event()
    async with StopSignals(stop.set) as signals:
        await check(way)
        async with open_registry(way) as registry:
            assert registry is not None, "whoever observes gave the address of a server"
            place = Place(registry, retelling, clock, stop)
            run = await find(place, wanted, waits=not once)
            if run is not None:
                await _observe(run, way, place, once)
    return signals.received


async def _observe(run: ListedRun, way: Door, place: Place, once: bool) -> None:
    if run.entry.signed and not way.signs:
        place.retelling.note(f"the run signs its messages; nobody checks that here: {SET_SECRETS}", "warning")
    async with open_bus(way, run.entry.run_id, place.clock) as opened, keeping_house(opened.bus):
        observer = Observer(run, opened.bus, place, f"observer-{secrets.token_hex(4)}")
        await (observer.once() if once else observer.follow())
        if observer.picture.entry.ended is not None:
            await opened.retire(KEPT_S)  # looking at it may have made keys that nobody else would let go


class Observer:
    """Follows one run, on its bus and in the registry; `name` is its group's, unique on that bus."""

    def __init__(self, run: ListedRun, bus: Bus, place: Place, name: str) -> None:
        now_s = place.clock.monotonic()
        self.picture = Picture(run.entry)
        self._bus = bus
        self._at = place
        self._name = name
        self._vigil = Vigil(run.alive, now_s)
        self._lull = Lull(now_s)
        self._belief = Belief()
        self._turned_s = self._shown_s = self._looked_s = now_s
        self._connection = 0
        self._cut_off = False

    async def once(self) -> None:
        """Show the run as it is now.

        Raises:
            Unbelieved: its messages can't be believed.
        """
        await self._read_history()
        self._vigil.change(self._at.clock.monotonic())
        view = replace(self._view(), events=self.picture.newest_events(EVENTS_SHOWN))
        self._at.retelling.once(self.picture.entry, view, self.picture.missing)

    async def follow(self) -> None:
        """Until the run has ended, nobody listens any more, or the observer shall leave.

        Raises:
            Unbelieved: its messages can't be believed.
        """
        subscription = self._bus.subscribe(HEARD, self._name, self._name, lossy=True)
        try:
            self._at.retelling.start(self.picture.entry)
            await self._read_history()
            self._at.retelling.here(self._view())
            self._tell()
            while self.picture.entry.ended is None and not self._at.leaving:
                await self._turn(subscription)
            if self.picture.entry.ended is not None:
                await self._hear_the_rest(subscription)
                self._at.retelling.end(self.picture.entry, self.picture.view(), self.picture.missing)
        finally:
            subscription.close()

    async def _turn(self, subscription: Subscription) -> None:
        """Take what comes, and do what is due."""
        deliveries = await subscription.receive(BATCH, wait_s=RECEIVE_S)
        now_s = self._at.clock.monotonic()
        self._hear(deliveries, now_s)
        if self._missed_something(now_s):
            await self._read_history()
        self._tell()  # what is noted below comes after it
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            await self._look(now_s)
        self._judge()
        if now_s - self._shown_s >= SHOW_EVERY_S:
            self._shown_s = now_s
            self._at.retelling.update(self._view())

    def _hear(self, deliveries: Sequence[Delivery], now_s: float) -> None:
        for delivery in deliveries:
            with delivery:
                self._belief.believed += 1
                self.picture.take(delivery.event_id, delivery.message)
        if deliveries:
            self._vigil.heard(now_s)

    def _missed_something(self, now_s: float) -> bool:
        """Whether this process stood still, or its connection was made anew."""
        stood_still = now_s - self._turned_s > WAS_STOPPED_S
        self._turned_s = now_s
        if stood_still:
            self._vigil.heard(now_s)  # the silence was ours
        link = self._bus.metrics().link
        connection = link.reconnects if link is not None else 0
        made_anew, self._connection = connection != self._connection, connection
        return stood_still or made_anew

    async def _read_history(self) -> None:
        """Take what the bus has kept; what it can't give now is asked for when the connection is back."""
        for topic in HEARD:
            with suppress(RefusedError):
                for past in await self._bus.history(topic):
                    self._belief.believed += 1
                    self.picture.take(past.event_id, past.message)
        self._judge()

    async def _hear_the_rest(self, subscription: Subscription) -> None:
        """What a run that has ended said last."""
        for _ in range(LAST_BATCHES_MAX):
            deliveries = await subscription.receive(BATCH, wait_s=0)
            self._hear(deliveries, self._at.clock.monotonic())
            if not deliveries:
                break
        await self._read_history()
        self._tell()

    async def _look(self, now_s: float) -> None:
        """See in the registry how the run is."""
        try:
            run = await self._at.registry.find(self.picture.entry.run_id)
        except UnreachableError as error:
            if not self._cut_off:
                self._note(f"{error}; waiting for it to come back", "warning")
            self._cut_off = True
        else:
            if self._cut_off:
                self._note("the server is back", "info")
                self._vigil.heard(now_s)  # it has to find back, too
            self._cut_off = False
            if run is not None:
                self.picture.register(run.entry)
                self._vigil.saw(now_s, run.entry.pulse.number)
            change = self._vigil.change(now_s)
            if change:
                self._note(change, "warning" if self._vigil.silent else "info")
            view = self._view()
            lull = self._lull.change(now_s, view.phase, view.epoch)
            if lull:
                self._note(lull, "warning")

    def _judge(self) -> None:
        link = self._bus.metrics().link
        doubt = self._belief.judge(link.refused) if link is not None else ""
        if doubt:
            self._note(doubt, "warning")

    def _note(self, text: str, kind: EventKind) -> None:
        """Say something about the observing, in the epoch that is known by now: the view may be older."""
        self._at.retelling.note(text, kind, self.picture.reached)

    def _tell(self) -> None:
        for news in self.picture.news():
            self._at.retelling.news(news)

    def _view(self) -> RunView:
        view = self.picture.view()
        silent = self._vigil.silent and self.picture.entry.ended is None
        return replace(view, phase="silent") if silent else view
