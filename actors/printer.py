"""Prints lines from a thread of its own, so that a reader who stalls never holds up a run."""

import os
import threading
from collections import deque
from contextlib import suppress
from typing import TextIO

LINES_MOST = 10_000
"""Lines that may wait for the reader; beyond, the oldest are left out and counted."""
CLOSES_S = 10.0
"""Seconds that the end of a run waits for the reader to take the last lines."""


class Printer:
    """Takes lines, writes them in order; a reader who is gone (`| head`), or a full disk, is not missed."""

    def __init__(self, out: TextIO, lines_most: int = LINES_MOST) -> None:
        self._out = out
        self._waiting: deque[str] = deque(maxlen=lines_most)
        self._left_out = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="printer", daemon=True)
        self._thread.start()

    @property
    def unheard(self) -> bool:
        """Whether the reader is gone: nothing more is written."""
        return not self._thread.is_alive()

    def put(self, line: str) -> None:
        """Have `line` written; never waits for the reader. Nothing happens once closed."""
        with self._changed:
            if self._closed:
                return
            if len(self._waiting) == self._waiting.maxlen:
                self._left_out += 1
            self._waiting.append(line)
            self._changed.notify()

    def close(self, timeout_s: float = CLOSES_S) -> bool:
        """Write what waits, then end; False if the reader did not take it within `timeout_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _write_all(self) -> None:
        try:
            while lines := self._take():
                self._out.write("".join(f"{line}\n" for line in lines))
                self._out.flush()
        except (OSError, ValueError):  # gone, full, or closed by someone
            self._give_up()

    def _take(self) -> list[str]:
        """All lines that wait; none once closed and empty."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            lines = list(self._waiting)
            if self._left_out:
                lines.insert(0, f"({self._left_out} lines were left out: nobody read them)")
            self._waiting.clear()
            self._left_out = 0
            return lines

    def _give_up(self) -> None:
        """Point the stream at nothing, so that its last flush at exit does not fail either."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
        with suppress(OSError, ValueError):  # the stream may have no file
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._out.fileno())
            os.close(nothing)
