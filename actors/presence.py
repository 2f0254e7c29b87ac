"""Says that a run is there: its entry in the registry, a sign of life each second, and its end.

It also watches the way to the bus, and says once when that is lost and once when it is back; and so when the
bus turns messages away. A registry that does not answer costs this task its time and nobody else anything.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from msgspec.structs import replace

from actors.display import Display
from actors.oona.errors import UnreachableError
from actors.oona.metrics import BusMetrics, LinkRow
from actors.oona.open import KEPT_S, OpenBus, Registry
from actors.runtime.clock import Clock
from contracts.registry import Pulse, RunEntry
from contracts.report import Ending

BEAT_S = 1.0
"""Seconds between two signs of life."""
QUIET_POLL_S = 0.005
QUIET_POLLS_MAX = 200
"""A boundary is not disturbed, for at most a second."""
RETIRE_EVERY = 60
"""Beats between two times that what the back end keeps is given its time to live anew."""
BUS_LOST = "bus_lost"
LOST_TEXT = (
    "the bus can't be reached; training goes on, and what is published waits where there is room: "
    "until it is back the event log, observers and the event lines on this terminal are behind"
)
BUS_CONSERVATIVE = "bus_conservative"
BUS_FULL = "bus_full"
FULL_TEXT = (
    "the bus's server has no memory left (maxmemory) and takes no messages; training goes on: "
    "give it more, or let observers catch up"
)
BUS_OVERTAXED = "bus_overtaxed"
OVERTAXED_TEXT = (
    "the bus's server did not come to an answer in time, however often it was asked; that was given up"
)
FRAMES_REFUSED = "frames_refused"


class Alive(Protocol):
    """The run's witness, as far as its life goes."""

    def pulse(self) -> Pulse: ...
    def alert(self, name: str, text: str) -> None: ...
    def lost(self, name: str, text: str) -> None: ...
    def regained(self, name: str) -> None: ...


class Presence:
    """One run's presence."""

    def __init__(
        self,
        entry: RunEntry,
        registry: Registry | None,
        witness: Alive,
        way: OpenBus,
        display: Display,
        clock: Clock,
    ) -> None:
        self._entry = entry
        self._registry = registry
        self._witness = witness
        self._way = way
        self._display = display
        self._clock = clock
        self._lost_s: float | None = None
        self._turned_away_s: float | None = None
        self._full = False
        self._given_up = 0
        self._refused: set[str] = set()
        self._beats = 0

    async def beat(self) -> None:
        """A sign of life, and a look at the way to the bus."""
        self._look(self._way.bus.metrics())
        if self._beats % RETIRE_EVERY == 0:
            await self._way.retire(KEPT_S)
        self._beats += 1
        if self._entry.ended is None:
            self._entry = replace(self._entry, pulse=self._witness.pulse())
            await self._put()

    def over(self, ended: Ending, closing: str) -> None:
        """How it ended, in one sentence; said when the last sign of life has been given."""
        self._entry = replace(self._entry, ended=ended, closing=closing)

    async def end(self) -> None:
        """The last thing that is said of the run; not said again if nobody hears it."""
        ended = self._entry.ended or Ending("interrupted", "it broke off")
        pulse = replace(self._witness.pulse(), probe=None)
        self._entry = replace(self._entry, pulse=pulse, ended=ended)
        await self._put()
        await self._way.retire(KEPT_S)

    async def _put(self) -> None:
        if self._registry is not None:
            with suppress(UnreachableError):  # shows in the link's state, if it lasts
                await self._registry.put(self._entry)

    def _look(self, metrics: BusMetrics) -> None:
        """Only where others share the bus: in memory nobody outside misses anything."""
        if metrics.link is None:
            return
        now_s = self._clock.monotonic()
        self._look_at_link(metrics.link, now_s)
        if metrics.conservative and self._turned_away_s is None:
            self._turned_away_s = now_s
            text = turned_away(metrics.conservative_cause)
            self._witness.lost(BUS_CONSERVATIVE, text)
            self._display.event(text, "alert")
        elif not metrics.conservative and self._turned_away_s is not None:
            away_s, self._turned_away_s = now_s - self._turned_away_s, None
            self._witness.regained(BUS_CONSERVATIVE)
            self._display.event(f"the bus takes all messages again after {away_s:.0f} s", "info")

    def _look_at_link(self, link: LinkRow, now_s: float) -> None:
        if not link.connected and self._lost_s is None:
            self._lost_s = now_s
            self._witness.lost(BUS_LOST, LOST_TEXT)
            self._display.event(LOST_TEXT, "alert")
        elif link.connected and self._lost_s is not None:
            away_s, self._lost_s = now_s - self._lost_s, None
            self._witness.regained(BUS_LOST)
            self._display.event(f"the bus is back after {away_s:.0f} s", "info")
        if link.full != self._full:
            self._full = link.full
            if link.full:
                self._witness.lost(BUS_FULL, FULL_TEXT)
                self._display.event(FULL_TEXT, "alert")
            else:
                self._witness.regained(BUS_FULL)
                self._display.event("the bus's server has memory again", "info")
        if link.given_up > self._given_up:
            self._given_up = link.given_up
            self._witness.alert(BUS_OVERTAXED, OVERTAXED_TEXT)
        for reason in sorted({reason for reason, count in link.refused.items() if count} - self._refused):
            self._refused.add(reason)
            self._witness.alert(
                FRAMES_REFUSED, f"messages from outside are refused: {reason.replace('_', ' ')}"
            )


def turned_away(cause: str) -> str:
    """What is said while the bus takes urgent messages only."""
    return f"the bus turns messages away: {cause}; the event log and observers miss them"


@asynccontextmanager
async def present(
    presence: Presence, clock: Clock, quiet: Callable[[], bool], beat_s: float = BEAT_S
) -> AsyncIterator[None]:
    """Beat while the block runs, outside of boundaries; then say that it is over, or that it broke off."""
    over = asyncio.Event()
    beating = asyncio.create_task(_live(presence, clock, quiet, beat_s, over), name="presence")
    try:
        yield
    finally:
        over.set()
        await asyncio.wait({beating})  # not cancelled: that would cut a command of the driver half-way
        await presence.end()
    beating.result()


async def _live(
    presence: Presence, clock: Clock, quiet: Callable[[], bool], beat_s: float, over: asyncio.Event
) -> None:
    while not over.is_set():
        for _ in range(QUIET_POLLS_MAX):
            if not quiet():
                break
            await clock.sleep(QUIET_POLL_S)
        await presence.beat()
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), beat_s)
