"""When which field report is announced: in the order of writing, and again until it is acknowledged.

A report that the bus refuses holds up those behind it, so that no reader hears a younger one first. One that
was announced and not acknowledged is announced again after a wait that doubles up to `WAIT_MAX_S`, for as
long as it is kept. The outbox holds a bounded part of the line; the rest waits on the disk.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from contracts.messages import FieldReport

HELD_MAX = 256
"""Reports in the outbox; the next ones come in as these are acknowledged."""
WAIT_FIRST_S = 2.0
WAIT_MAX_S = 60.0
"""Seconds between two announcements of a report."""
AT_ONCE_MAX = 32
"""Announcements at a time."""


class Letter(NamedTuple):
    """One announcement."""

    report: FieldReport
    event_id: str
    """Another one each time, or the bus would take the second for a duplicate of the first."""


@dataclass
class _Held:
    report: FieldReport
    number: int = 0
    """Of its next announcement."""
    due_s: float = -math.inf


class Outbox:
    """Plans announcements on a clock that is told; whoever owns it carries them out."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        """By report id, in the order of writing."""
        self._renewed: dict[str, int] = {}
        """Numbers at which the announcements of reports go on that were replaced."""
        self._refusals = 0
        self._blocked_until_s = 0.0
        self.resent = 0
        """Announcements after a report's first."""

    @property
    def room(self) -> int:
        """Reports that it takes now."""
        return HELD_MAX - len(self._held)

    @property
    def held(self) -> Collection[str]:
        return self._held.keys()

    def take(self, reports: Iterable[FieldReport]) -> None:
        """Take reports from the disk, in their order; as many as there is room for."""
        for report in reports:
            if self.room > 0:
                number = self._renewed.get(report.report_id, 0)
                self._held.setdefault(report.report_id, _Held(report, number))

    def drop(self, report_ids: Iterable[str]) -> None:
        """These need no announcement any more."""
        for report_id in report_ids:
            self._held.pop(report_id, None)
            self._renewed.pop(report_id, None)

    def renew(self, report_id: str) -> None:
        """Another report has taken its place on the disk, and is to be taken from there."""
        held = self._held.pop(report_id, None)
        self._renewed[report_id] = held.number if held is not None else 1

    def due(self, now_s: float) -> tuple[Letter, ...]:
        """What is to be announced now, in this order; after a refusal the rest of it is not."""
        if now_s < self._blocked_until_s:
            return ()
        due = [held for held in self._held.values() if held.due_s <= now_s]
        return tuple(self._letter(held) for held in due[:AT_ONCE_MAX])

    def announced(self, letter: Letter, now_s: float) -> None:
        """The bus has taken it."""
        self._refusals = 0
        held = self._held.get(letter.report.report_id)
        if held is not None and held.report is letter.report:
            self.resent += held.number > 0
            held.due_s = now_s + _wait_s(held.number)
            held.number += 1

    def refused(self, now_s: float) -> None:
        """The bus takes nothing now."""
        self._blocked_until_s = now_s + _wait_s(self._refusals)
        self._refusals += 1

    def hurry(self) -> None:
        """What was refused may be tried again at once."""
        self._blocked_until_s = 0.0

    def _letter(self, held: _Held) -> Letter:
        report_id = held.report.report_id
        return Letter(held.report, f"{report_id}~{held.number}" if held.number else report_id)


def _wait_s(before: int) -> float:
    """Seconds after the announcement, or refusal, that came after `before` others."""
    return min(WAIT_MAX_S, WAIT_FIRST_S * 2.0 ** min(before, 10))
