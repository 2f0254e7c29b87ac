"""Field reports on their way to their reader: on disk before they are announced, until they are too old.

A report's id is that of the command that it is about, which has one report. What comes here is settled, yet a
run that had to be resumed from an older checkpoint, because the newest was damaged, writes the reports of the
epochs that it trains again under the same ids. So what is written under a known id is held against what is
there:

| there is | and it says | then |
| --- | --- | --- |
| a report | the same, but for the moment of writing | nothing changes: the first writing stays |
| a report that nobody has taken | something else | the new one takes its place, at the end of the line |
| a report that was taken | something else | the new one is refused, and told: no reader can untake the old |
| one that was taken, on a shorter window | | nothing changes: the run had ended there, and was made longer |
| only a reader's note that it was taken | | nothing changes: it was written, taken and removed before |
| a damaged report | | the new one takes its place |

Taken is what was acknowledged, and what a reader has noted in `seen`: it may have been killed in between.
"""

import enum
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from contracts.messages import FieldReport, WallNs
from esper.database import Database, Row
from esper.journal.seal import seal

KEPT_NS = 24 * 3600 * 10**9
"""Nanoseconds of the wall clock that a report is kept after it was written, acknowledged or not."""
BATCH = 256
"""Rows that are read at a time."""
_TABLE = "reports"
_FIELDS = "ordinal, report_id, written_ns, acknowledged_ns, payload, seal"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(FieldReport)


class Kept(enum.Enum):
    """What became of a report that was to be written."""

    NEW = "new"
    SAME = "same"
    REPLACED = "replaced"
    TAKEN = "taken"
    """It was taken before and needs no announcement."""
    REFUSED = "refused"
    """Another report was taken under this id."""


class Pending(NamedTuple):
    """Reports that nobody has acknowledged, the oldest first, and the names of damaged ones among them."""

    reports: tuple[FieldReport, ...]
    damaged: tuple[str, ...]


class Expired(NamedTuple):
    """What was removed for its age."""

    removed: int
    untaken: tuple[str, ...]
    """Ids of those among them that nobody ever acknowledged."""


class _Written(NamedTuple):
    """A row that is what was written."""

    ordinal: int
    report: FieldReport
    acknowledged_ns: int


class ReportStore:
    """Reads and writes rows of `reports`. Nothing here begins a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, report: FieldReport, now_ns: WallNs) -> Kept:
        """Keep a report, by the rule above."""
        report_id = report.report_id
        found = self._database.rows(f"SELECT {_FIELDS} FROM reports WHERE report_id = ?", report_id)
        taken = self._is_seen(report_id)
        if not found:
            return Kept.TAKEN if taken else self._insert(report, now_ns, Kept.NEW)
        old = _written(found[0])
        if old is not None and _said(old.report) == _said(report):
            return Kept.TAKEN if taken or old.acknowledged_ns else Kept.SAME
        if taken or (old is not None and old.acknowledged_ns):
            return Kept.TAKEN if old is not None and _cut_off(old.report, report) else Kept.REFUSED
        self._database.run("DELETE FROM reports WHERE report_id = ?", report_id)
        return self._insert(report, now_ns, Kept.REPLACED)

    def pending(self, most: int, without: Collection[str] = ()) -> Pending:
        """The `most` oldest that nobody has acknowledged, and that are not among `without`."""
        reports: list[FieldReport] = []
        damaged: list[str] = []
        for row in self._open():
            one = _written(row)
            if one is None:
                damaged.append(_name(row))
            elif one.report.report_id not in without:
                reports.append(one.report)
            if len(reports) >= most:
                break
        return Pending(tuple(reports), tuple(damaged))

    def acknowledge(self, report_ids: Sequence[str], now_ns: WallNs) -> int:
        """The reader has these; how many were not acknowledged before. Unknown and damaged ones are left."""
        return sum(self._acknowledge(report_id, now_ns) for report_id in report_ids)

    def expire(self, now_ns: WallNs) -> Expired:
        """Remove what was written more than `KEPT_NS` ago."""
        where = "FROM reports WHERE written_ns <= ?"
        before = now_ns - KEPT_NS
        untaken = self._database.rows(f"SELECT {_FIELDS} {where} AND acknowledged_ns = 0", before)
        removed = self._database.run(f"DELETE {where}", before)
        return Expired(removed, tuple(map(_name, untaken)))

    def _open(self) -> Iterator[Row]:
        """Rows that nobody has acknowledged, in their order."""
        statement = (
            f"SELECT {_FIELDS} FROM reports WHERE acknowledged_ns = 0 AND ordinal > ? ORDER BY ordinal"
        )
        after = 0
        while rows := self._database.rows(f"{statement} LIMIT ?", after, BATCH):
            yield from rows
            after = int(rows[-1][0])

    def _acknowledge(self, report_id: str, now_ns: WallNs) -> bool:
        found = self._database.rows(f"SELECT {_FIELDS} FROM reports WHERE report_id = ?", report_id)
        old = _written(found[0]) if found else None
        if old is None or old.acknowledged_ns:
            return False
        ordinal, name, written_ns, _, payload, _ = found[0]
        values = (ordinal, name, written_ns, now_ns, payload)
        self._database.run(
            "UPDATE reports SET acknowledged_ns = ?, seal = ? WHERE ordinal = ?",
            now_ns,
            seal(_TABLE, *values),
            ordinal,
        )
        return True

    def _insert(self, report: FieldReport, now_ns: WallNs, kept: Kept) -> Kept:
        ordinal = self._database.number("SELECT max(ordinal) FROM reports") + 1
        values = (ordinal, report.report_id, now_ns, 0, _encoder.encode(report))
        self._database.run(
            f"INSERT INTO reports ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?)", *values, seal(_TABLE, *values)
        )
        return kept

    def _is_seen(self, report_id: str) -> bool:
        return self._database.number("SELECT count(*) FROM seen WHERE report_id = ?", report_id) > 0


class SeenReports:
    """Reads and writes rows of `seen`: what a reader has taken down. Nothing here begins a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, reader: str, report_id: str) -> bool:
        """Note it, in the transaction in which the reader writes down what it makes of it.

        False if it was noted before: then there is nothing to be made of it.
        """
        statement = "INSERT INTO seen VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return self._database.run(statement, reader, report_id, seal("seen", reader, report_id)) == 1

    def taken(self, reader: str) -> tuple[frozenset[str], tuple[str, ...]]:
        """Ids of all that `reader` has noted, and the names of damaged notes, whoever's they are."""
        ids: set[str] = set()
        damaged: list[str] = []
        for of, report_id, sealed in self._database.rows("SELECT reader, report_id, seal FROM seen"):
            if seal("seen", of, report_id) != sealed:
                damaged.append(f"a note that {_text(report_id)} was taken is damaged")
            elif of == reader.encode():
                ids.add(_text(report_id))
        return frozenset(ids), tuple(damaged)


def _written(row: Row) -> _Written | None:
    """None if the row is not what was written."""
    *values, sealed = row
    if seal(_TABLE, *values) != sealed:
        return None
    ordinal, _, _, acknowledged_ns, payload = values
    assert isinstance(payload, bytes)
    try:
        report = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # whole, but not of this version
    return _Written(int(ordinal), report, int(acknowledged_ns))


def _said(report: FieldReport) -> bytes:
    """All but the moment of writing, which is another one each time."""
    return _encoder.encode(replace(report, issued_at=0))


def _cut_off(old: FieldReport, new: FieldReport) -> bool:
    """Whether the end of the run had cut off the window that the old one is about."""
    return old.observation_window_epochs < new.observation_window_epochs


def _name(row: Row) -> str:
    return _text(row[1])


def _text(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
