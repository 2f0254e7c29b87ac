"""Kills at every call that changes the disk: what was acknowledged is there, and nothing is half there."""

import itertools
import os
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import pytest

from esper.checkpoint.store import FOLDER
from tests.esper.journal.workload import check_whole, live
from tests.esper.urza.world import in_memory
from tests.syscalls import Call, Decide, Decision, Ended, Kill, supervised

STEPS, SIZES = 6, (10, 300, 1_500, 5_000)
"""Of a life; characters of an event."""
SAVERS = ("event log", "field reports", "checkpoints")
SPREAD = 29
"""By default every so many-th point is tried with a real kill."""
COPIED_EVERY = 3
CHANGES = {"execute", "write", "fsync", "replace", "rename", "mkdir", "unlink", "open", "close", "acquire"}
"""Functions of C before which a life is cut off where the kernel can't do it."""


@pytest.fixture
def disk() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def lived(folder: Path, size: int, decide: Decide) -> Ended:
    folder.mkdir()
    return supervised(lambda say: live(folder, say, STEPS, size), folder, decide)


class KillAt:
    """Kills at the `point`-th call, the first of them being 0, and says whose it was."""

    def __init__(self, point: int) -> None:
        self._left = point
        self.saver = ""
        """Empty where the life was over by then."""

    def __call__(self, call: Call, said: Sequence[str]) -> Decision:
        self._left -= 1
        if self._left != -1:
            return None
        self.saver = saver_of(call, said)
        return Kill()


def saver_of(call: Call, said: Sequence[str]) -> str:
    """Whose work a call is; event log and reports share a file, and what was said last tells them apart."""
    if any(FOLDER in path.parts or path.name == FOLDER for path in call.paths):
        return "checkpoints"
    last = said[-1].split()[0] if said else ""
    return "field reports" if last in ("events", "report", "taken") else "event log"


def points(folder: Path, size: int) -> int:
    """How many calls there are in a life that nobody cuts off."""
    calls: list[str] = []

    def note(call: Call, said: Sequence[str]) -> Decision:
        calls.append(call.name)
        return None

    ended = lived(folder, size, note)
    assert (ended.status, ended.said[-1]) == (0, "left")
    assert {"openat", "pwrite64", "fdatasync", "rename"} <= set(calls)
    check_whole(folder, ended.said)
    return len(calls)


def killed(disk: Path, size: int, every: int) -> Iterator[tuple[str, int]]:
    """One kill after the other, each checked; gives in whose work, and how much had been acknowledged."""
    for point in range(size % every, points(disk / f"whole-{size}", size), every):
        folder = disk / f"{size}-{point}"
        kill = KillAt(point)
        ended = lived(folder, size, kill)
        assert ended.status == (-signal.SIGKILL if kill.saver else 0)
        check_whole(folder, ended.said)
        shutil.rmtree(folder)
        if kill.saver:  # the groups of two lives may differ by a call or two
            yield kill.saver, len(ended.said)


def test_whatever_a_kill_leaves_holds_all_that_was_acknowledged(disk: Path) -> None:
    """A killed process leaves the files as they are: they are copied while it waits before a call."""
    here, calls = disk / "here", itertools.count()
    copies: list[tuple[Path, tuple[str, ...]]] = []

    def copy(_: Call, said: Sequence[str]) -> Decision:
        if next(calls) % COPIED_EVERY == 0:
            copies.append((Path(shutil.copytree(here, disk / f"{len(copies)}")), tuple(said)))
        return None

    assert lived(here, SIZES[1], copy).status == 0
    for folder, said in copies:
        check_whole(folder, said)
    assert len(copies) >= 100
    assert copies[0][1] == ()
    assert len(copies[-1][1]) > 3 * STEPS
    print(f"{len(copies)} points, {sum(len(said) for _, said in copies)} acknowledgements held")


def test_a_kill_at_any_write_loses_nothing_that_was_acknowledged(disk: Path) -> None:
    points = list(killed(disk, SIZES[1], SPREAD))
    assert len(points) >= 10
    assert {saver for saver, _ in points} == set(SAVERS)
    assert max(held for _, held in points) > 2 * STEPS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_at_every_write_loses_nothing_that_was_acknowledged(disk: Path) -> None:
    points = [one for size in SIZES for one in killed(disk, size, 1)]
    savers = Counter(saver for saver, _ in points)
    print(f"{len(points)} kill points, {sum(held for _, held in points)} acknowledgements held; {savers}")
    assert len(points) >= 1_000
    assert set(savers) == set(SAVERS)
    assert min(savers.values()) >= 200, "each of them is killed often"


def killed_in_python(folder: Path, point: int) -> Ended:
    """The same where no parent can stand between: cut off before the `point`-th call of a function of C."""
    hear, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        _die_at(point)
        live(folder, lambda line: os.write(say, f"{line}\n".encode()) and None, STEPS, SIZES[1])
        os._exit(0)
    os.close(say)
    with os.fdopen(hear) as lines:
        said = tuple(lines.read().splitlines())
    return Ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said)


def _die_at(point: int) -> None:
    count = itertools.count()

    def look(_: FrameType, event: str, what: Callable[..., object]) -> None:
        if event == "c_call" and what.__name__ in CHANGES and next(count) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(look)
    sys.setprofile(look)


def killed_in_python_everywhere(disk: Path, every: int) -> Iterator[int]:
    for point in itertools.count(0, every):
        folder = disk / f"{point}"
        folder.mkdir()
        ended = killed_in_python(folder, point)
        check_whole(folder, ended.said)
        shutil.rmtree(folder)
        yield len(ended.said)
        if ended.status == 0:
            return
        assert ended.status == -signal.SIGKILL


def test_a_kill_between_two_lines_of_python_loses_nothing_that_was_acknowledged(disk: Path) -> None:
    acknowledged = list(killed_in_python_everywhere(disk, 97))
    assert (acknowledged[0], len(acknowledged) > 3) == (0, True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_anywhere_in_python_loses_nothing_that_was_acknowledged(disk: Path) -> None:
    acknowledged = list(killed_in_python_everywhere(disk, 3))
    assert len(acknowledged) >= 100
    print(f"{len(acknowledged)} kills between lines of Python")
