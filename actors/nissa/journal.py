"""The event log of a run: one JSON object a line, in the order in which Nissa heard of it.

A line has `time_ns` (wall clock), `topic`, `event_id` and `message`; the message's fields are those of
the wire, enums as their numbers there.
"""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from contracts.messages import WallNs

FLUSH_EVERY = 32
"""Lines that may wait in memory."""


class Line(msgspec.Struct, frozen=True):
    """One entry."""

    time_ns: WallNs
    topic: str
    event_id: str
    message: msgspec.Struct


class Journal:
    """Appends to `events.jsonl`; a reader that follows it is at most `FLUSH_EVERY` lines behind.

    When the disk takes no more, `broken` says why; the file then ends with a whole line, and nothing more
    is written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream = file.open("ab")
        self._sound = self._stream.tell()  # bytes that the system has taken, all whole lines
        self.broken = ""
        self._encoder = msgspec.json.Encoder()
        self._waiting = 0
        self.lines = 0

    def write(self, line: Line) -> None:
        """Append one entry, unless the journal is broken."""
        if self.broken:
            return
        try:
            self._stream.write(self._encoder.encode(line) + b"\n")
        except OSError as error:
            self._break(error)
            return
        self.lines += 1
        self._waiting += 1
        if self._waiting >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Hand over to the system what waits."""
        if self.broken:
            return
        try:
            self._stream.flush()
        except OSError as error:
            self._break(error)
            return
        self._sound = self._stream.tell()
        self._waiting = 0

    def close(self) -> None:
        """Flush and close; more than once does no harm."""
        if not self._stream.closed:
            self.flush()
            self._stream.close()

    def _break(self, error: OSError) -> None:
        """Give up: the lines that still wait are lost, and what is left of the last one is cut off."""
        self.broken = error.strerror or str(error)
        with suppress(OSError):
            self._stream.close()
        with suppress(OSError):
            os.truncate(self._file, self._sound)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
