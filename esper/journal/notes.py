"""What a reader notes: an event, and with it the report that it brings. Many go into the journal at once."""

from collections.abc import Sequence

import msgspec

from esper.journal.book import Book
from esper.journal.events import Entry


class Note(msgspec.Struct, frozen=True):
    """One event, as a piece of work."""

    entry: Entry
    reader: str
    report_id: str
    """Of the report that it brings, which its reader has from then on; empty if it brings none."""

    def __call__(self, book: Book) -> None:
        write_down(book, [self])


def write_down(book: Book, notes: Sequence[Note]) -> None:
    """Write them in their order, as if one by one."""
    for note in notes:
        if note.report_id:
            book.seen.take(note.reader, note.report_id)
    book.events.extend([note.entry for note in notes])
