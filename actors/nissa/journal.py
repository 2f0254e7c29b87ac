"""The event log of a run: everything that was published, in the order in which Nissa heard of it.

It is a table of the run's journal, and `events.jsonl` is made of it when the run ends. There one line is one
event: `time_ns` (wall clock), `topic`, `event_id` and `message`, whose fields are those of the wire, enums as
their numbers there.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from actors.scribe import Broken, InlineScribe, Scribe, ThreadScribe, nothing
from contracts.messages import FieldReport, WallNs
from esper.database import DatabaseDamaged, DatabaseUnavailable
from esper.journal.events import Entry
from esper.journal.notes import Note
from esper.journal.reading import leave
from esper.journal.schema import EVENTS, FILE
from esper.journal.seal import storable

SETTLE_S = 1.0
"""Seconds that the disk may take for what was written last, before those who stop go without."""
READER = "nissa"
"""The name under which it notes which field reports it has."""


class Line(msgspec.Struct, frozen=True):
    """One entry."""

    time_ns: WallNs
    topic: str
    event_id: str
    message: msgspec.Struct


class Journal:
    """Hands lines to the scribe, and never waits for the disk.

    When the disk takes no more, `broken` says why; what it took stays whole, nothing more is written, and
    the run goes on. If the disk was full and has room again, so does the journal, and `lacks` says what is
    missing. When it is too slow, so that too much waits for it already, new lines are left out and
    counted in `left_out`.

    A field report comes from the bus at least once, and after a resume once more. It is taken once: what has
    been noted of it is noted with its line, in one transaction, and only then is it in `taken`.
    """

    def __init__(self, folder: Path | None = None, scribe: Scribe | None = None) -> None:
        """Open the journal in `folder`, or one in memory.

        Raises:
            OSError: the folder isn't there.
        """
        self._folder = folder
        if scribe is None:
            scribe = InlineScribe() if folder is None else ThreadScribe(folder / FILE)
        self.scribe = scribe
        self.notes = list(scribe.notes)
        """What has to be told: of a damaged journal that was found, of rows that could not be read."""
        self.lines = 0
        self.left_out = 0
        self._encoder = msgspec.json.Encoder()
        self._not_left = ""
        self._closed = False
        self._reports: dict[str, bool] = {}
        """Field reports that were taken; true once that is on the disk."""
        self._taken: deque[str] = deque()
        with suppress(Broken):
            before, damaged = scribe.wait(lambda book: book.seen.taken(READER))
            self._reports.update(dict.fromkeys(before, True))
            self.notes.extend(damaged)

    @property
    def broken(self) -> str:
        return self.scribe.broken or self._not_left

    @property
    def lacks(self) -> str:
        """What is missing since the disk was full; empty if nothing is."""
        gap = self.scribe.gap
        return f"{self._where} lacks {gap.pieces} events: {gap.reason}" if gap is not None else ""

    def write(self, line: Line) -> bool:
        """Append one entry. False if it is a field report that was taken before: nothing in it is new."""
        report_id = line.message.report_id if isinstance(line.message, FieldReport) else ""
        known = self._reports.get(report_id) if report_id else None
        if known:
            self._taken.append(report_id)  # whoever sends it again has not heard of that
        else:
            self._put(line, report_id)
        return known is None

    def mark(self, landed: Callable[[], None]) -> bool:
        """Call `landed`, in whatever thread, once all that was written so far is on the disk.

        False, and it is not called, if the journal is broken or too much waits for the disk. Nor is it called
        if the journal breaks before.
        """
        return self.scribe.post(nothing, landed=landed)

    def taken(self) -> tuple[str, ...]:
        """Ids of the field reports that came to be on the disk, or came again, since this was asked last."""
        ids: list[str] = []
        while self._taken:
            ids.append(self._taken.popleft())
        return tuple(ids)

    async def settle(self) -> None:
        """Until all that was written is on the disk, nothing more will be, or `SETTLE_S` is over."""
        with suppress(Broken, TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self.scribe.run(lambda book: None, hurry=True)

    def troubles(self) -> Iterator[tuple[str, str]]:
        """What the run's report and its spectators have to be told: an alert's name, and the text."""
        for note in self.notes:
            yield "journal_damaged", note
        if self.lacks:
            yield "journal_gap", self.lacks
        if self.broken:
            yield "journal_broken", f"{self._where} ends early: {self.broken}"
        if self.left_out:
            told = f"{self._where} lacks {self.left_out} events: the disk was too slow for them"
            yield "journal_slow", told

    def close(self) -> None:
        """Wait for the disk, then leave `events.jsonl`; more than once does no harm."""
        if self._closed:
            return
        self._closed = True
        self.scribe.close()
        if self._folder is None:
            return
        try:
            self.notes.extend(leave(self._folder))
        except (DatabaseDamaged, DatabaseUnavailable) as error:
            self._not_left = f"{EVENTS} could not be made: {error}"
        except OSError as error:
            self._not_left = f"{EVENTS} could not be written: {error.strerror or error}"

    @property
    def _where(self) -> str:
        return FILE if self._folder is None else str(self._folder / FILE)

    def _put(self, line: Line, report_id: str) -> None:
        event_id = storable(report_id or line.event_id)
        entry = Entry(line.topic, event_id, line.time_ns, self._encoder.encode(line.message))
        landed = None
        if report_id:
            self._reports[report_id] = False
            landed = partial(self._landed, report_id)
        if self.scribe.post(Note(entry, READER, report_id), len(entry.message), landed):
            self.lines += 1
        elif not self.scribe.broken:
            self.left_out += 1

    def _landed(self, report_id: str) -> None:
        self._reports[report_id] = True
        self._taken.append(report_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
