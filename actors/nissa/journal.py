"""The event log of a run: one JSON object a line, in the order in which Nissa heard of it.

A line has `time_ns` (wall clock), `topic`, `event_id` and `message`; the message's fields are those of
the wire, enums as their numbers there.
"""

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
    """Appends to `events.jsonl`; a reader that follows it is at most `FLUSH_EVERY` lines behind."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("ab")
        self._encoder = msgspec.json.Encoder()
        self._waiting = 0
        self.lines = 0

    def write(self, line: Line) -> None:
        """Append one entry; `OSError` if the disk does not take it."""
        self._stream.write(self._encoder.encode(line) + b"\n")
        self.lines += 1
        self._waiting += 1
        if self._waiting >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Hand over to the system what waits."""
        self._stream.flush()
        self._waiting = 0

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
