"""One exchange with a confined process: send, then read until the answer while its limits are watched."""

import os
import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from actors.tezzeret.child import Child
from actors.tezzeret.failures import Died, Garbled, JobRaised, OutOfMemory
from actors.tezzeret.frames import BadFrame, Decoder, Frame, Kind
from actors.tezzeret.watch import WATCH_S, Watch

READ_BYTES: Final = 1 << 16
READS_MAX: Final = 4
"""Reads of the last words: more than a full pipe holds."""
WORDS_BYTES_MAX: Final = 4096
"""What is kept of the newest that a process writes to its standard output and error."""
FAREWELL_S: Final = 0.5
"""Seconds for a process whose pipe is closed to end by itself."""


@dataclass(frozen=True)
class Answer:
    """What the module's handler returned."""

    header: bytes
    body: bytes


class Conversation:
    """Reads frames of `child` under the eyes of `watch`."""

    def __init__(self, child: Child, watch: Watch) -> None:
        self._child = child
        self._watch = watch
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        self._words = bytearray()
        self._unsent = memoryview(b"")
        self._poll = select.poll()
        self._poll.register(child.answers, select.POLLIN)
        self._poll.register(child.words, select.POLLIN)

    def ask(self, job: bytes, on_progress: Callable[[bytes], None] | None) -> Answer:
        """Send the job's frame and wait for its answer.

        Raises:
            SandboxFailed: of every kind that a running process can have.
        """
        self._unsent = memoryview(job)
        self._poll.register(self._child.jobs, select.POLLOUT)
        while True:
            frame = self._frame()
            if frame.kind is Kind.PROGRESS:
                if on_progress is not None:
                    on_progress(frame.header)
            elif frame.kind is Kind.ANSWER and not self._unsent:
                self.check_silence()
                return Answer(frame.header, frame.body)
            elif frame.kind is Kind.ERROR:
                self.check_silence()
                raise JobRaised(frame.header.decode(errors="replace"))
            elif frame.kind is Kind.NO_MEMORY:
                raise OutOfMemory(f"memory was refused to it: {frame.header.decode(errors='replace')}")
            else:
                raise Garbled(f"the process sent {frame.kind.name} where an answer was due")

    def expect(self, kind: Kind) -> Frame:
        """The next frame, which must be of this kind.

        Raises:
            SandboxFailed: as `ask`.
        """
        frame = self._frame()
        if frame.kind is not kind:
            raise Garbled(f"the process sent {frame.kind.name} where {kind.name} was due")
        return frame

    def check_silence(self) -> None:
        """Nothing came that was not asked for; raises Garbled."""
        if self._frames or self._decoder.halfway:
            raise Garbled("the process went on after its answer")

    def _frame(self) -> Frame:
        while not self._frames:
            ready = dict(self._poll.poll(WATCH_S * 1000))
            self._watch.look()
            if self._child.words in ready:
                self._listen()
            if self._child.jobs in ready:
                self._send()
            if self._child.answers in ready:
                self._read()
        return self._frames.popleft()

    def _send(self) -> None:
        try:
            sent = os.write(self._child.jobs, self._unsent)
        except BlockingIOError:
            return
        except BrokenPipeError:  # the other pipe tells why
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._poll.unregister(self._child.jobs)

    def _read(self) -> None:
        data = os.read(self._child.answers, READ_BYTES)
        if not data:
            raise self._died()
        try:
            self._frames += self._decoder.feed(data)
        except BadFrame as error:
            raise Garbled(str(error)) from None

    def _listen(self) -> None:
        data = os.read(self._child.words, READ_BYTES)
        if not data:
            self._poll.unregister(self._child.words)
        self._words = (self._words + data)[-WORDS_BYTES_MAX:]

    def _died(self) -> Died:
        status = self._child.ended(FAREWELL_S)
        try:
            for _ in range(READS_MAX):
                self._words = (self._words + os.read(self._child.words, READ_BYTES))[-WORDS_BYTES_MAX:]
        except BlockingIOError:  # something that it started still has the other end
            pass
        return Died(status, self._words.decode(errors="replace").strip())
