"""How soon a watchdog's process sees that an event loop stands still, and what it costs while it runs.

Each round stalls the loop for a while, once in Python and once in a C call that holds the interpreter lock.
The stall counts from its true beginning to the line that the watchman writes before it has the stacks
dumped.
"""

import asyncio
import ctypes
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from actors.watchdog import BEAT_S, Stall, Watch, watched
from bench.measure import Budget, Size, percentiles
from contracts.config import EmergencyConfig

BUDGETS = (Budget("python.max_ms", 1000.0), Budget("lock.max_ms", 1000.0), Budget("false_alarms", 0.0))
ROUNDS = {Size.SMALL: 1, Size.FULL: 20}
STALL_S = 0.9
QUIET_S = {Size.SMALL: 0.2, Size.FULL: 30.0}
BEATS = {Size.SMALL: 100, Size.FULL: 20_000}


class Told:
    """Collects what is heard."""

    def __init__(self) -> None:
        self.stalls: list[Stall] = []
        self.heard = asyncio.Event()

    def stalled(self, stall: Stall) -> None:
        self.stalls.append(stall)
        self.heard.set()

    def unwatched(self, reason: str) -> None:
        raise RuntimeError(reason)


def run(size: Size) -> dict[str, object]:
    """Latency of detection by kind of stall, false alarms of a quiet loop, and the price of a beat."""
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Callable[[], object]] = {"python": in_python, "lock": holding_the_lock}
        figures: dict[str, object] = {}
        for name, way in ways.items():
            file = Path(folder) / name
            figures[name] = seen(file, asyncio.run(stalled(file, way, ROUNDS[size])))
        figures["false_alarms"] = asyncio.run(quiet(Path(folder) / "quiet", QUIET_S[size]))
    figures["beat"] = beats(BEATS[size])
    return figures


def in_python() -> None:
    time.sleep(STALL_S)


def holding_the_lock() -> None:
    ctypes.PyDLL(None).usleep(int(STALL_S * 1e6))


async def stalled(file: Path, stall: Callable[[], object], rounds: int) -> list[float]:
    """When each stall began, in seconds of the wall clock."""
    told, began_s = Told(), list[float]()
    async with watched(Watch(file, EmergencyConfig(), lambda: None, told)):
        for number in range(rounds):
            await asyncio.sleep(BEAT_S * (1 + number / rounds))  # at every distance from the last beat
            began_s.append(time.time())
            stall()
            await told.heard.wait()
            told.heard.clear()
    return began_s


def seen(file: Path, began_s: list[float]) -> dict[str, object]:
    """How long after the beginning of each stall the watchman's line about it was written."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if "has stood still" in line]
    assert len(lines) == len(began_s), "each stall was dumped once"
    moments = [datetime.strptime(line.split()[0], "%Y-%m-%dT%H:%M:%S.%fZ") for line in lines]
    seen_s = [moment.replace(tzinfo=UTC).timestamp() for moment in moments]
    return percentiles([at - began for at, began in zip(seen_s, began_s, strict=True)]).figures("ms")


async def quiet(file: Path, seconds: float) -> int:
    """Stalls that were seen of a loop that is idle."""
    told = Told()
    async with watched(Watch(file, EmergencyConfig(), lambda: None, told)):
        await asyncio.sleep(seconds)
    return len(told.stalls)


def beats(count: int) -> dict[str, object]:
    """What writing a beat takes of the loop's time."""
    ours, theirs = os.pipe()
    took_s = []
    for _ in range(count):
        began_s = time.perf_counter()
        os.write(theirs, b"%d %d\n" % (time.monotonic_ns(), -1))
        took_s.append(time.perf_counter() - began_s)
        os.read(ours, 64)
    os.close(ours)
    os.close(theirs)
    return percentiles(took_s).figures("us")
