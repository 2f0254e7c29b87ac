"""A small run under the watchdog, for its tests: a process that stands still as it is told to.

`python -m tests.actors.watched_run FOLDER HOW`: it prints a line when it is watched, stands still until the
stacks are on disk (or somebody writes to its standard input), and prints what it was told.
"""

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from actors.watchdog import BEAT_S, Stall, Watch, watched
from contracts.config import EmergencyConfig

STACKS = "stalls.txt"
LOOP_S, STEP_S, HANG_S = 0.3, 1.0, 0.9
QUIET_LOOP_S = 0.75
TICK_S = 0.05
BUSY_S = 1.0
"""How long the quiet run works under load."""


class Told:
    """Prints what it hears."""

    def __init__(self) -> None:
        self._heard: set[str] = set()
        self._news = asyncio.Event()

    def stalled(self, stall: Stall) -> None:
        news = f"{stall.what} {'over' if stall.over else 'lasts'}"
        say(f"{news} {stall.dumped} {stall.lasted_s > 0}")
        self._hear(news)

    def unwatched(self, reason: str) -> None:
        say(f"unwatched {reason}")
        self._hear("unwatched")

    def _hear(self, news: str) -> None:
        self._heard.add(news)
        self._news.set()

    async def hears(self, news: str) -> None:
        """Until that is told, whatever else is told before it on a busy machine."""
        while news not in self._heard:
            self._news.clear()
            await self._news.wait()


def say(line: str) -> None:
    print(line, flush=True)


def dumped(file: Path) -> bool:
    """Whether the stacks are there."""
    return b"File " in file.read_bytes() if file.exists() else False


def stand_in_python(file: Path) -> None:
    """The loop does nothing else until the stacks are on disk."""
    while not dumped(file):
        time.sleep(0.01)


def hold_the_lock() -> None:
    """A C call that keeps the interpreter lock until somebody writes to standard input."""
    ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)


class Moments:
    """When the loop was seen to go on, now and then while the block runs."""

    def __init__(self) -> None:
        self._moments: list[float] = []

    async def __aenter__(self) -> None:
        self._moments.append(time.monotonic())
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._moments.append(time.monotonic())

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        self._moments.append(time.monotonic())
        longest_s = max(after - before for before, after in pairwise(self._moments))
        say(f"still {longest_s}")


async def quiet_under_load() -> None:
    """Threads that work all the time while the loop goes on."""
    stop = threading.Event()
    workers = [threading.Thread(target=work_until, args=(stop,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    await asyncio.sleep(BUSY_S)
    stop.set()
    for worker in workers:
        worker.join()
    await asyncio.sleep(2 * BEAT_S)  # whatever was seen has been told by then


def work_until(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


async def main(folder: Path, how: str) -> None:
    told, file, steps = Told(), folder / STACKS, [0]
    limits = EmergencyConfig(
        loop_stall_s=QUIET_LOOP_S if how == "quiet" else LOOP_S,
        step_stall_s=STEP_S,
        hang_s=HANG_S if how == "for ever" else 0,
    )
    progress: Callable[[], int | None] = (lambda: steps[0]) if how == "step" else (lambda: None)
    async with Moments(), watched(Watch(file, limits, progress, told, "Go on with --resume.")):
        say(f"watched {children()}")
        await asyncio.sleep(0)
        match how:
            case "python":
                stand_in_python(file)
                await told.hears("loop over")
            case "lock" | "for ever":
                hold_the_lock()
                await told.hears("loop over")
            case "step":
                await told.hears("step lasts")
                steps[0] += 1
                await told.hears("step over")
            case "quiet":
                await quiet_under_load()
            case "killed":
                await asyncio.get_running_loop().create_future()
            case "alone":
                os.kill(int(children()), signal.SIGKILL)
                await told.hears("unwatched")
    say(f"ended {children()}")


def children() -> str:
    """The process ids of this process's children."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").strip()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
