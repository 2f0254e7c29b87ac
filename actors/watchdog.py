"""Watches a run from a process of its own: a stall is seen, its stacks are on disk, and the run is told.

    loop ── a beat every 0.2 s, with the training thread's progress ──▶ watchman (a process)
      ▲                                                                  │ none for `loop_stall_s`:
      └── what stood still and how long, once the loop can hear ◀────────┤ a signal, on which faulthandler
                                                                         ▼ writes all stacks, in C
                                                                      stalls.txt in the run folder

The watchman ends with the run, also when the run is killed. A process that shows no sign of life for
`hang_s` is ended by it: nothing inside can, and the last checkpoint is on disk.
"""

import asyncio
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from actors import watchman
from contracts.config import EmergencyConfig
from contracts.emergency import Trigger, Trouble
from contracts.messages import WallNs

BEAT_S = 0.2
"""Between two beats; a wake-up costs up to 0.15 ms beside a busy thread."""
ENDS_S = 2.0
"""Seconds that the watchman has to end in before it is killed."""
SIGNALS_MAX = 4
"""Runs in one process that can be watched at a time: each needs a signal of its own."""

_taken: set[int] = set()
_STALL = {"loop": Trigger.LOOP_STALLED, "step": Trigger.STEP_STALLED}


class Stall(msgspec.Struct, frozen=True):
    """Something stood still, or does so still."""

    what: watchman.What
    began_ns: WallNs
    lasted_s: float
    over: bool
    """Whether it moves again; a training thread that hangs is told at once, a loop once it can hear."""
    dumped: bool
    """Whether its stacks are in the file."""

    @property
    def text(self) -> str:
        """One line for people."""
        verb = "stood still" if self.over else "has stood still"
        return f"the {watchman.NAMES[self.what]} {verb} for {self.lasted_s:.2f} s"

    def trouble(self, epoch: int, file: Path) -> Trouble:
        """The same as a trouble of this epoch."""
        where = f"; the stacks are in {file.name}" if self.dumped else ""
        return Trouble(_STALL[self.what], self.text + where, epoch, {"lasted_s": f"{self.lasted_s:.3f}"})


class Listener(Protocol):
    """Is told what the watchman has seen, on the loop."""

    def stalled(self, stall: Stall) -> None: ...
    def unwatched(self, reason: str) -> None:
        """Nobody watches any more; the run goes on."""


class Watch(msgspec.Struct, frozen=True):
    """What is watched, and what follows."""

    file: Path
    """Where stacks are appended."""
    emergency: EmergencyConfig
    progress: Callable[[], int | None]
    """Any count that changes while the training thread works, at least once in `step_stall_s`; None while
    it has nothing to do."""
    listener: Listener
    farewell: str = ""
    """What people read when a process that hangs is ended: how to go on."""


@asynccontextmanager
async def watched(watch: Watch) -> AsyncIterator[None]:
    """Have the running loop watched for as long as the block runs; without a watchman it runs as well."""
    with ExitStack() as stack:
        try:
            dog = _Dog(watch, stack)
        except OSError as error:
            watch.listener.unwatched(f"no watchdog: {error}")
            yield
            return
        try:
            yield
        finally:
            await dog.end()


class _Dog:
    """The run's side: it beats, and hears what the watchman says."""

    def __init__(self, watch: Watch, stack: ExitStack) -> None:
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._gone = asyncio.Event()
        self._ending = False
        self._cut = b""
        number = stack.enter_context(_dumping(watch.file))
        self._process, self._beats, self._words = _start(watch, number)
        os.set_blocking(self._beats, False)
        os.set_blocking(self._words, False)
        self._loop.add_reader(self._words, self._hear)
        self._next: asyncio.Handle = self._loop.call_soon(self._beat)

    async def end(self) -> None:
        """Let the watchman go; afterwards nobody sends the signal any more."""
        self._ending = True
        self._next.cancel()
        os.close(self._beats)
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDS_S):
                await self._gone.wait()
        if not self._gone.is_set():
            self._process.kill()
            self._leave()
        self._process.wait()

    def _beat(self) -> None:
        progress = self._watch.progress()
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._beats, b"%d %d\n" % (time.monotonic_ns(), -1 if progress is None else progress))
        self._next = self._loop.call_later(BEAT_S, self._beat)

    def _hear(self) -> None:
        heard = os.read(self._words, 1 << 16)
        if not heard:
            self._leave()
            return
        *lines, self._cut = (self._cut + heard).split(b"\n")
        for line in lines:
            self._watch.listener.stalled(msgspec.json.decode(line, type=Stall))

    def _leave(self) -> None:
        self._loop.remove_reader(self._words)
        os.close(self._words)
        self._gone.set()
        if not self._ending:
            self._watch.listener.unwatched("the watchdog's process has ended")


def _start(watch: Watch, number: int) -> tuple[subprocess.Popen[bytes], int, int]:
    """The watchman, and our ends of the pipes: for beats, and for what it says."""
    emergency = watch.emergency
    their_beats, beats = os.pipe()
    words, their_words = os.pipe()
    terms = {
        "parent": os.getpid(),
        "beats": their_beats,
        "words": their_words,
        "signal": number,
        "file": str(watch.file),
        "loop_s": emergency.loop_stall_s,
        "step_s": emergency.step_stall_s,
        "end_s": emergency.hang_s,
        "farewell": watch.farewell,
    }
    command = [sys.executable, "-I", "-S", watchman.__file__, json.dumps(terms)]
    try:
        # A session of its own: an interrupt at the terminal is not for the watchman.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=(their_beats, their_words), start_new_session=True
        )
    except OSError:
        os.close(beats)
        os.close(words)
        raise
    finally:
        os.close(their_beats)
        os.close(their_words)
    return process, beats, words


@contextmanager
def _dumping(file: Path) -> Iterator[int]:
    """A signal on which all stacks are appended to `file`, for as long as the block runs.

    Raises:
        OSError: the file can't be written, or every signal is taken.
    """
    if sys.platform != "linux":
        raise OSError("it needs Linux's process descriptors and real-time signals")
    free = [one for one in range(signal.SIGRTMAX, signal.SIGRTMAX - SIGNALS_MAX, -1) if one not in _taken]
    if not free:
        raise OSError(f"{SIGNALS_MAX} runs of this process are watched already")
    number = free[0]
    with file.open("ab") as stacks:
        _taken.add(number)
        faulthandler.register(number, stacks, all_threads=True)
        try:
            yield number
        finally:
            faulthandler.unregister(number)
            _taken.discard(number)
