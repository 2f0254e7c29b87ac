"""Looks after the process's memory and the disk of the run's folder, once a second, outside of boundaries.

And after the wall clock: that it was set is told, and does no harm.
"""

import asyncio
import gc
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from actors.alarm import Alarm
from actors.runtime.clock import Clock, WallJumps
from actors.runtime.threads import Threads
from contracts.config import EmergencyConfig
from contracts.emergency import Relief, Trouble
from esper.tolaria.memory import SHARE, available_bytes, resident_bytes
from esper.tolaria.vitals import MB, DiskSpace, MemoryUse

LOOK_EVERY_S = 1.0
STATM = Path("/proc/self/statm")
Found: TypeAlias = Trouble | Relief | None
Tell: TypeAlias = Callable[[str, str], None]
"""An alert's name, and the text."""


def read_resident() -> int:
    """Bytes that this process has resident; the kernel knows them, so it may be asked on the loop."""
    return resident_bytes(STATM.read_text())


def read_free(folder: Path) -> int:
    """Bytes that are free where `folder` is; that may take as long as the disk likes."""
    return shutil.disk_usage(folder).free


@dataclass
class Vitals:
    """What is looked at, and how."""

    memory: MemoryUse | None
    """None where it is not known how much there is."""
    disk: DiskSpace
    folder: Path
    threads: Threads
    resident: Callable[[], int] = read_resident
    free: Callable[[Path], int] = read_free
    collect: Callable[[], object] = gc.collect
    """Lets go of what is held in cycles alone."""

    async def look_at_memory(self, epoch: int) -> Found:
        if self.memory is None:
            return None
        if self.memory.above:  # what was taken out for it may wait for the collector, which comes by seldom
            self.collect()
        return self.memory.look(self.resident(), epoch)

    async def look_at_disk(self, epoch: int) -> Found:
        """In a thread: a disk that does not answer holds up nobody."""
        try:
            free = await self.threads.run(lambda: self.free(self.folder))
        except OSError:
            return None  # nothing can be said of it; whoever writes will tell
        return self.disk.look(free, epoch)


def vitals(config: EmergencyConfig, folder: Path, threads: Threads) -> Vitals:
    """What the configuration wants looked at."""
    given = config.memory_mb * MB if config.memory_mb is not None else int(available_bytes() * SHARE)
    memory = MemoryUse(given, config.memory_hard_ratio) if given and STATM.exists() else None
    return Vitals(memory, DiskSpace(config.disk_free_mb * MB), folder, threads)


@asynccontextmanager
async def watching_vitals(
    alarm: Alarm, watched: Vitals, clock: Clock, quiet: Callable[[], bool], tell: Tell
) -> AsyncIterator[None]:
    """Raise the alarm when a sign leaves its bounds, while the block runs; not at all while it is `quiet`.

    `tell` hears of a wall clock that was set.
    """
    looks = (watched.look_at_memory, watched.look_at_disk, _look_at_clock(clock, tell))
    watches = [asyncio.create_task(_watch(alarm, look, clock, quiet), name="vital signs") for look in looks]
    try:
        yield
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.wait(watches)
        for watch in watches:
            if not watch.cancelled():
                watch.result()


async def _watch(
    alarm: Alarm, look: Callable[[int], Awaitable[Found]], clock: Clock, quiet: Callable[[], bool]
) -> None:
    while True:
        if not quiet():
            match await look(alarm.epoch):
                case Trouble() as trouble:
                    alarm.see(trouble)
                case Relief(trigger, subject):
                    alarm.over(trigger, subject)
                case None:
                    pass
        await clock.sleep(LOOK_EVERY_S)


def _look_at_clock(clock: Clock, tell: Tell) -> Callable[[int], Awaitable[Found]]:
    jumps = WallJumps(clock)

    async def look(epoch: int) -> Found:
        jump_s = jumps.look()
        if jump_s:
            way = "put forward" if jump_s > 0 else "set back"
            tell(
                "clock_set",
                f"the wall clock was {way} by {abs(jump_s):,.0f} s; the log's times go on from there",
            )
        return None

    return look
