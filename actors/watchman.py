"""The watchdog's process: sees from outside that a run's event loop, or its training thread, stands still.

What holds the interpreter lock can't be seen from inside: nothing else runs until it lets go. So the run
sends beats through a pipe to this process, which has no part in its lock; where they stay away it has the
run dump the stacks of all its threads (a signal that `faulthandler` handles in C), and says so once the run
can hear again.

`actors.watchdog` starts it as a script: the standard library only, and it ends with the run, however that
ends.
"""

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

What: TypeAlias = Literal["loop", "step"]
DUMPS_A_STALL = 6
"""Dumps while one stall lasts, each after twice the time of the one before."""
DUMPS_MAX = 60
"""Dumps in all; later stalls are told without their stacks."""
KILLS_AFTER_S = 5.0
"""Seconds that a process has to end after it was told to abort."""
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of standing still that are too long."""

    loop_s: float
    step_s: float
    end_s: float
    """After which the process is ended; 0 never ends it."""


@dataclass(frozen=True, slots=True)
class Dump:
    """Stacks are wanted."""

    what: What
    since_s: float
    first: bool


@dataclass(frozen=True, slots=True)
class Over:
    """It moves again."""

    what: What
    since_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class End:
    """It will never move again: end the process."""

    since_s: float


Order: TypeAlias = Dump | Over | End


@dataclass(slots=True)
class _Still:
    """How long one thing has not moved."""

    what: What
    limit_s: float
    since_s: float
    dumps: int = 0

    @property
    def due_s(self) -> float:
        """When the next dump is due."""
        return self.since_s + self.limit_s * 2.0**self.dumps if self.dumps < DUMPS_A_STALL else NEVER

    def look(self, now_s: float) -> list[Order]:
        if now_s < self.due_s:
            return []
        self.dumps += 1
        return [Dump(self.what, self.since_s, first=self.dumps == 1)]

    def moved(self, at_s: float) -> list[Order]:
        """It has moved; a stall is one also where nobody could look in time."""
        stalled = self.dumps > 0 or at_s - self.since_s >= self.limit_s
        over: list[Order] = [Over(self.what, self.since_s, at_s)] if stalled else []
        self.since_s, self.dumps = max(self.since_s, at_s), 0
        return over


@dataclass(slots=True)
class Vigil:
    """What the beats come to; times in seconds of one clock, which never goes back."""

    limits: Limits
    now_s: float
    loop: _Still = field(init=False)
    step: _Still = field(init=False)
    progress: int = -1
    """What the training thread has done by its own count; below 0 it has nothing to do."""

    def __post_init__(self) -> None:
        self.loop = _Still("loop", self.limits.loop_s, self.now_s)
        self.step = _Still("step", self.limits.step_s, self.now_s)

    def beat(self, at_s: float, progress: int) -> list[Order]:
        """The loop was alive at `at_s`; a step is not blamed for what the loop stood still."""
        orders = self.loop.moved(at_s)
        if progress != self.progress:
            if self.progress >= 0:
                orders += self.step.moved(at_s)
            self.step = _Still("step", self.limits.step_s, at_s)
            self.progress = progress
        elif orders and not self.step.dumps:
            self.step.since_s = at_s
        return orders

    def look(self, now_s: float) -> list[Order]:
        """What is due by now."""
        orders = self.loop.look(now_s)
        if self.progress >= 0 and not self.loop.dumps:
            orders += self.step.look(now_s)
        if now_s >= self._ends_s:
            orders.append(End(self.loop.since_s))
        return orders

    def rest(self, now_s: float) -> None:
        """The process is stopped by somebody: that is no stall."""
        self.loop.since_s = self.step.since_s = now_s

    @property
    def due_s(self) -> float:
        """When there is something to look for if no beat comes."""
        step_s = self.step.due_s if self.progress >= 0 and not self.loop.dumps else NEVER
        return min(self.loop.due_s, step_s, self._ends_s)

    @property
    def _ends_s(self) -> float:
        return self.loop.since_s + self.limits.end_s if self.limits.end_s > 0 else NEVER


class Watchman:
    """The shell around the vigil: pipes, signals and the file of stacks."""

    def __init__(self, terms: dict[str, float | int | str]) -> None:
        self._parent = int(terms["parent"])
        self._beats, self._words = int(terms["beats"]), int(terms["words"])
        self._signal = int(terms["signal"])
        self._farewell = str(terms["farewell"])
        self._file = os.open(str(terms["file"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._pid_fd = os.pidfd_open(self._parent)
        limits = Limits(float(terms["loop_s"]), float(terms["step_s"]), float(terms["end_s"]))
        self._vigil = Vigil(limits, time.monotonic())
        self._cut = b""
        self._dumps = 0

    def watch(self) -> None:
        """Until the run, or its watch, ends."""
        poll = select.poll()
        poll.register(self._beats, select.POLLIN)
        poll.register(self._pid_fd, select.POLLIN)
        while os.getppid() == self._parent:
            wait_s = max(0.0, self._vigil.due_s - time.monotonic())
            ready = {fd for fd, _ in poll.poll(None if wait_s == NEVER else wait_s * 1e3 + 1)}
            if self._pid_fd in ready or (self._beats in ready and not self._hear()):
                return
            if time.monotonic() >= self._vigil.due_s:
                self._look()

    def _hear(self) -> bool:
        """Take the beats that have come; False if there will be no more."""
        heard = os.read(self._beats, 1 << 16)
        *lines, self._cut = (self._cut + heard).split(b"\n")
        for line in lines:
            at_ns, progress = line.split()
            self._follow(self._vigil.beat(int(at_ns) / 1e9, int(progress)))
        return bool(heard)

    def _look(self) -> None:
        if _stopped(self._parent):
            self._vigil.rest(time.monotonic())
        else:
            self._follow(self._vigil.look(time.monotonic()))

    def _follow(self, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Dump():
                    self._dump(order)
                case Over(what, since_s, until_s):
                    self._note(f"the {NAMES[what]} moves again after {until_s - since_s:.2f} s")
                    self._tell(what, since_s, until_s, over=True)
                case End(since_s):
                    self._end(since_s)

    def _dump(self, dump: Dump) -> None:
        now_s = time.monotonic()
        self._note(f"the {NAMES[dump.what]} has stood still for {now_s - dump.since_s:.2f} s")
        self._dumps += 1
        if self._dumps <= DUMPS_MAX:
            self._send(self._signal)
        if dump.first and dump.what == "step":  # the loop can hear of it at once
            self._tell(dump.what, dump.since_s, now_s, over=False)

    def _end(self, since_s: float) -> None:
        told = f"the run has shown no sign of life for {time.monotonic() - since_s:.0f} s and is ended"
        self._note(told)
        os.write(sys.stderr.fileno(), f"esper: {told}. {self._farewell}\n".encode())
        self._send(self._signal)
        self._send(signal.SIGABRT)
        gone = select.poll()
        gone.register(self._pid_fd, select.POLLIN)
        if not gone.poll(KILLS_AFTER_S * 1e3):
            self._send(signal.SIGKILL)
            gone.poll()

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pid_fd, number)

    def _note(self, line: str) -> None:
        now_ns = time.time_ns()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 10**9))
        at += f".{now_ns // 10**6 % 1000:03}Z"
        with suppress(OSError):  # a full disk is no reason to stop watching
            os.write(self._file, f"\n{at} {line}\n".encode())

    def _tell(self, what: What, since_s: float, now_s: float, *, over: bool) -> None:
        began_ns = time.time_ns() - int((time.monotonic() - since_s) * 1e9)
        dumped = self._dumps <= DUMPS_MAX
        told = {
            "what": what,
            "began_ns": began_ns,
            "lasted_s": now_s - since_s,
            "over": over,
            "dumped": dumped,
        }
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._words, json.dumps(told).encode() + b"\n")


NAMES: dict[What, str] = {"loop": "event loop", "step": "training thread"}


def _stopped(pid: int) -> bool:
    """Whether the process is stopped by job control or a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Watchman(json.loads(sys.argv[1])).watch()
