"""Keeps every command under observation, whoever issued it, and sees its field report to its reader.

Apart from Tamiyo, so that a policy that hangs or crashes takes no report with it. A report goes to the disk
once no rollback and no resume can undo what it is about, and it is on the disk before it is announced, and
announced again until its reader has acknowledged it. So a reader gets one report on a command:

| what happens | what the reader gets |
| --- | --- |
| a rollback to before the window closed | nothing yet: it is open again, and closes in the new future |
| a rollback to before the command | one report, ABORTED, that notes that the command was undone |
| an interrupt or a halt with windows open | nothing yet: the resumed run fills them |
| the end of the run | the reports on what was seen of the open windows |
| a kill before the report is on the disk | nothing yet: the checkpoint has the report or its window |
| a kill after that, announced or not | that report: the resumed run announces it, as often as need be |

Nobody waits for the disk but what is announced: whoever tells of a decision, or asks what is remembered, is
answered at once. What a disk does not take waits in the observation, and in the checkpoints. There is room
for so many; moments and checkpoints lie so close that it is settled before. Where no checkpoint can be
written for too long, reports are told all the same, and that they are is said.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import msgspec

from actors.errands import Errands
from actors.oona.bus import Bus
from actors.oona.errors import RefusedError
from actors.runtime import Actor, handles
from actors.runtime.clock import Clock
from actors.scribe import Broken, Scribe
from contracts import topics
from contracts.control import CloseWindows, Decided, ReportsRead
from contracts.messages import FieldReport, WallNs
from contracts.request import Request
from contracts.wire import WireError
from esper.journal.book import Book
from esper.journal.outbox import AT_ONCE_MAX, HELD_MAX, Letter, Outbox
from esper.journal.reports import Kept, Pending
from esper.tamiyo.observation import Observation, ObservationMemory

ANNOUNCE_EVERY_S = 1.0
TIDY_EVERY_S = 60.0
"""Seconds between two looks for reports that are too old."""
ERRANDS_MAX = 256
"""Pieces of work that wait for the disk. What is too much comes again by itself."""
LAST_ERRANDS_S = 1.0
"""Seconds that they have at the end."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RememberWindows(Request[ObservationMemory]):
    """Which windows are open?"""


@dataclass(frozen=True, slots=True)
class RecallWindows(Request[bool]):
    """Go back to these, from a future that is undone; True once it is done."""

    memory: ObservationMemory


class Announce(msgspec.Struct, frozen=True):
    """Publish what is due."""


class Tidy(msgspec.Struct, frozen=True):
    """Remove what is too old, and fetch what waits on the disk."""


class Tell(Protocol):
    """Hears of what went wrong: an alert's name, and the text."""

    def __call__(self, name: str, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Post:
    """What reports are kept and sent with; all of it outlives a restart of the shell."""

    bus: Bus
    scribe: Scribe
    outbox: Outbox
    alert: Tell
    settled: Callable[[], float]
    """Epoch of the oldest moment that the run may still go back to; infinite if there is none."""


class _Put(NamedTuple):
    """What the disk made of it."""

    kept: tuple[Kept, ...]
    pending: Pending


class Reports(
    Actor[Decided | CloseWindows | RememberWindows | RecallWindows | ReportsRead | Announce | Tidy]
):
    """The shell around the observation windows, which outlive a restart of the shell."""

    critical = False

    def __init__(self, observation: Observation, clock: Clock, post: Post) -> None:
        self._observation = observation
        self._clock = clock
        self._post = post
        self._errands = Errands(ERRANDS_MAX)
        self._due: asyncio.Task[None] | None = None
        """Takes what is due to the disk, unless it has ended."""
        self._named: set[str] = set()
        """Damaged reports that were told."""
        self._broken = ""
        """Why the disk took no reports last; empty once it has taken some."""
        self._lost_count = 0
        self._hasty_at = -math.inf
        """What was settled when it was said last that reports are told which may still be undone."""

    async def on_start(self) -> None:
        self.context.every(ANNOUNCE_EVERY_S, Announce())
        self.context.every(TIDY_EVERY_S, Tidy())
        self._errands.run(self._tidy())

    async def on_stop(self) -> None:
        await self._errands.end(LAST_ERRANDS_S)

    @handles
    async def on_decided(self, message: Decided) -> None:
        self._observation.watch(message, self._clock.wall_ns())
        self._keep_due()

    @handles
    async def on_close_windows(self, message: CloseWindows) -> tuple[FieldReport, ...]:
        now_ns, resumable = self._clock.wall_ns(), message.resumable
        reports = self._observation.close(message.state, message.view, now_ns, resumable=resumable)
        self._post.outbox.hurry()  # the run ends, and with it who announces
        await self._keep(self._post.settled() if resumable else math.inf, hurry=True)
        for _ in range(HELD_MAX // AT_ONCE_MAX):
            self._announce()
        if not resumable and self._broken:
            self._lost(self._observation.due(math.inf))
        if self._lost_count:
            told = f"{self._lost_count} reports in all could not be kept, and were not announced"
            self._post.alert("field_reports_lost", told)
        return reports

    @handles
    async def on_remember_windows(self, _: RememberWindows) -> ObservationMemory:
        return self._observation.remember()

    @handles
    async def on_recall_windows(self, message: RecallWindows) -> bool:
        self._observation.go_back(message.memory, self._clock.wall_ns())
        return True

    @handles
    async def on_reports_read(self, message: ReportsRead) -> None:
        self._errands.run(self._acknowledge(message.report_ids))

    @handles
    async def on_announce(self, _: Announce) -> None:
        self._keep_due()
        self._announce()

    @handles
    async def on_tidy(self, _: Tidy) -> None:
        self._errands.run(self._tidy())

    def _keep_due(self) -> None:
        """Let what is due go to the disk, unless something is on its way there: then next time will do."""
        settled = self._post.settled()
        self._look_for_haste(settled)
        if self._observation.due(settled) and self._due not in self._errands:
            self._due = self._errands.run(self._keep(settled))
        self._lost(self._observation.shed())

    def _look_for_haste(self, settled: float) -> None:
        """Say it once, until more is settled, that reports are told before their time."""
        if settled != self._hasty_at and self._observation.hasty(settled):
            self._hasty_at = settled
            told = "no checkpoint has come to the disk for too long: reports are told that a resume may undo"
            self._post.alert("field_reports_unsettled", told)

    async def _keep(self, settled: float, *, hurry: bool = False) -> None:
        """Write the reports down that are due, then announce them."""
        reports = self._observation.due(settled)
        try:
            work = partial(_put, reports, self._clock.wall_ns(), self._post.outbox.room, self._held())
            put = await self._post.scribe.run(work, hurry=hurry)
        except Broken as error:
            self._broken = str(error)
            return
        self._broken = ""
        self._observation.kept([report.report_id for report in reports])
        for report, kept in zip(reports, put.kept, strict=True):
            if kept is Kept.REPLACED:
                self._post.outbox.renew(report.report_id)
            elif kept is Kept.REFUSED:
                told = f"{report.report_id} was taken before and says something else now; it stays as it was"
                self._post.alert("field_report_refused", told)
        self._take(put.pending)
        self._announce()

    async def _acknowledge(self, report_ids: Sequence[str]) -> None:
        """The reader has them: note that, and let others come in."""
        now_ns = self._clock.wall_ns()
        with suppress(Broken):
            await self._post.scribe.run(lambda book: book.reports.acknowledge(report_ids, now_ns))
        full = self._post.outbox.room == 0
        self._post.outbox.drop(report_ids)
        if full:
            await self._tidy()

    async def _tidy(self) -> None:
        now_ns, outbox = self._clock.wall_ns(), self._post.outbox
        with suppress(Broken):
            expired = await self._post.scribe.run(lambda book: book.reports.expire(now_ns))
            outbox.drop(expired.untaken)
            if expired.untaken:
                told = f"nobody has acknowledged them within a day: {_listed(expired.untaken)}"
                self._post.alert("field_reports_expired", told)
            room, held = outbox.room, self._held()
            self._take(await self._post.scribe.run(lambda book: book.reports.pending(room, held)))
        self._announce()

    def _held(self) -> frozenset[str]:
        return frozenset(self._post.outbox.held)

    def _take(self, pending: Pending) -> None:
        self._post.outbox.take(pending.reports)
        damaged = [name for name in pending.damaged if name not in self._named]
        if damaged:
            self._named.update(damaged)
            self._post.alert("field_reports_damaged", f"they can't be announced: {_listed(damaged)}")

    def _announce(self) -> None:
        outbox, now_s = self._post.outbox, self._clock.monotonic()
        for letter in outbox.due(now_s):
            try:
                self._publish(letter)
            except RefusedError:
                outbox.refused(now_s)
                return
            outbox.announced(letter, now_s)

    def _publish(self, letter: Letter) -> None:
        try:
            self._post.bus.publish_nowait(topics.FIELD_REPORT, letter.report, event_id=letter.event_id)
        except WireError as error:
            _log.warning("%s is not published: %s", letter.event_id, error)

    def _lost(self, reports: Sequence[FieldReport]) -> None:
        """What is not on the disk is not announced. Told once; the others are counted until the end."""
        if reports and not self._lost_count:
            names = _listed([report.report_id for report in reports])
            reason = self._broken or "the disk is too slow for them"
            self._post.alert("field_reports_lost", f"{names} could not be kept: {reason}")
        self._lost_count += len(reports)


def _put(reports: Sequence[FieldReport], now_ns: WallNs, room: int, held: frozenset[str], book: Book) -> _Put:
    """Write them down, and read what there is room for in the outbox; in the scribe's thread."""
    kept = tuple(book.reports.write(report, now_ns) for report in reports)
    replaced = {one.report_id for one, how in zip(reports, kept, strict=True) if how is Kept.REPLACED}
    return _Put(kept, book.reports.pending(room + len(replaced), held - replaced))


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(names[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
