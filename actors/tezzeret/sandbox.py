"""Runs work that may hang, eat memory or crash, in a process with limits.

It reaches no network, makes no other process (unless it may fork), and can neither look into others nor
signal them. Files are open to it with this user's rights: it is no place for code that is out to do harm.

Blocking: for a thread of the caller's, never for the event loop. The process starts with the first call and
stays for the next. Memory is watched from outside every `WATCH_S`, and time too; time in which the process
was ready and the machine ran others is not held against it, as it gives way to everybody.

A kernel that takes no system call filter gets no sandbox at all: every call raises `Unconfined`, and callers
do without what they would have made (a kernel's plain module stands in, marked). A process that doesn't come
up to take the job raises `NotStarted`: neither says anything about the job.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from actors.tezzeret.child import Child
from actors.tezzeret.confinement import HeadStart, Hello
from actors.tezzeret.conversation import Answer, Conversation
from actors.tezzeret.failures import Closed, Garbled, JobRaised, NotStarted, SandboxFailed, Unconfined
from actors.tezzeret.frames import Frame, Kind, encode
from actors.tezzeret.watch import Watch

__all__ = ["Answer", "Limits", "Sandbox", "SandboxFailed"]

START_S: Final = 60.0
"""Seconds for a process to come up and import its module."""


@dataclass(frozen=True)
class Limits:
    """What one job may take."""

    job_s: float = 60.0
    """Seconds of wall time, less those in which the machine ran others; ten times as much in all."""
    memory_bytes: int = 2 << 30
    """Resident memory; the process can't allocate much more either."""
    fork: bool = False
    """Whether it may start other processes, as native compilers do."""
    background: bool = True
    """Whether it gives way to whoever else wants the processor."""
    head_start: HeadStart | None = None
    """How a process that is started in the background begins; None is giving way from the beginning."""


class Sandbox:
    """One process at a time that runs `module`, which calls `worker_side.serve`.

    `scratch` is where its folder for temporary files is made; None is the system's place for those.
    """

    def __init__(
        self,
        module: str,
        limits: Limits,
        *,
        scratch: Path | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._module = module
        self._limits = limits
        self._scratch = scratch
        self._now = now
        self._child: Child | None = None
        self._closed = False
        self._calling = threading.Lock()  # one call at a time
        self._guard = threading.Lock()  # of `_child` and `_closed`, against `close` from another thread

    @property
    def pid(self) -> int | None:
        """The process's id; None if none runs."""
        child = self._child
        return None if child is None else child.pid

    def call(
        self,
        header: bytes,
        body: bytes = b"",
        *,
        limits: Limits | None = None,
        on_progress: Callable[[bytes], None] | None = None,
    ) -> Answer:
        """What the module answers; progress may be told before it.

        Another process is started if the job may fork and the present one may not, or the other way round.

        Raises:
            BadFrame: the job is too large, and was not sent.
            JobRaised: the handler raised; the process lives on.
            Unconfined, NotStarted: there is no process to be had; the job was not begun.
            SandboxFailed: any other kind of it; the process is dead.
        """
        job = encode(Frame(Kind.JOB, header, body))
        terms = self._limits if limits is None else limits
        with self._calling:
            try:
                return self._called(job, terms, on_progress)
            except SandboxFailed as failure:
                if not failure.lives_on:
                    self._end()
                if self._closed and not isinstance(failure, JobRaised | Closed):
                    raise Closed("the sandbox was closed") from failure
                raise
            except BaseException:
                self._end()
                raise

    def kill(self) -> None:
        """Have the process end, whatever it does, and take no more calls. Never waits; any thread may."""
        with self._guard:
            self._closed = True
            if self._child is not None:
                self._child.kill()

    def close(self) -> None:
        """As `kill`; then wait until the process is gone, and give back all that it had."""
        self.kill()
        with self._calling:  # a call that was under way has failed by now
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _called(self, job: bytes, terms: Limits, on_progress: Callable[[bytes], None] | None) -> Answer:
        child = self._child
        if child is not None and child.fork != terms.fork:
            self._end()
            child = None
        if child is None:
            child = self._started(terms)
        else:
            child.allow(terms.memory_bytes)
        watch = Watch(child, terms.job_s, terms.memory_bytes, self._now)
        return Conversation(child, watch).ask(job, on_progress)

    def _started(self, terms: Limits) -> Child:
        with self._guard:
            if self._closed:
                raise Closed("the sandbox is closed; make another")
            child = self._child = self._born(terms)
        try:
            self._greet(child, terms)
        except Unconfined:
            raise
        except SandboxFailed as failure:
            raise NotStarted(f"no process came up: {failure}") from failure
        return child

    def _greet(self, child: Child, terms: Limits) -> None:
        start = Conversation(child, Watch(child, START_S, terms.memory_bytes, self._now))
        hello = _hello(start.expect(Kind.HELLO))
        if not hello.filtered:
            raise Unconfined(f"nothing is run in a process without a system call filter: {hello.why_not}")
        start.expect(Kind.READY)
        start.check_silence()

    def _born(self, terms: Limits) -> Child:
        try:
            return Child(
                self._module,
                terms.memory_bytes,
                fork=terms.fork,
                background=terms.background,
                head_start=terms.head_start,
                scratch=self._scratch,
            )
        except OSError as error:
            raise NotStarted(f"no process could be started: {error}") from error

    def _end(self) -> None:
        with self._guard:
            child, self._child = self._child, None
        if child is not None:
            child.close()


def _hello(frame: Frame) -> Hello:
    try:
        return msgspec.json.decode(frame.header, type=Hello)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Garbled(f"the process greeted with {frame.header[:80]!r}: {error}") from None
