"""A disk that is full or fails: what it had taken stays, nothing is tried again, and the run goes on."""

import asyncio
import errno
import itertools
import os
import pwd
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from actors import scribe as scribe_module
from actors.nissa.journal import Journal, Line
from actors.scribe import ThreadScribe
from esper.database import DatabaseUnavailable
from esper.journal.book import open_book
from esper.journal.reading import EVENTS
from esper.journal.schema import FILE
from tests.esper.journal.samples import entry, packet
from tests.esper.journal.workload import check_whole, events_of, suffer
from tests.esper.urza.world import in_memory
from tests.syscalls import Call, Decide, Decision, Ended, Fail, supervised

STEPS = 4
SYNCS = ("fsync", "fdatasync")
EVERY = 23
"""By default every so many-th call fails once."""


@pytest.fixture
def disk() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def suffered(folder: Path, decide: Decide) -> Ended:
    folder.mkdir()
    return supervised(lambda say: suffer(folder, say, STEPS), folder, decide)


def is_journal(call: Call) -> bool:
    return call.paths[0].name.startswith(FILE)


class Failing:
    """Lets calls fail from the `point`-th on, and counts the syncs of the journal after its first failure."""

    def __init__(self, point: int, number: int, fails: Callable[[Call], bool], once: bool) -> None:
        self._point, self._number, self._fails, self._once = point, number, fails, once
        self._count = itertools.count()
        self.failed: list[Call] = []
        self.syncs_after = 0

    def __call__(self, call: Call, said: Sequence[str]) -> Decision:
        due = self._fails(call) and next(self._count) >= self._point
        if due and not (self._once and self.failed):
            self.failed.append(call)
            return Fail(self._number)
        if self.failed and is_journal(self.failed[0]) and is_journal(call):
            self.syncs_after += call.name in SYNCS
        return None


def is_sync(call: Call) -> bool:
    """Of a file: SQLite says nothing of a folder's, so the journal syncs its folder itself."""
    return call.name in SYNCS and "journal" in call.paths[0].name


def takes_room(call: Call) -> bool:
    return call.name in ("write", "pwrite64", "ftruncate", "openat", "mkdir")


def anything(call: Call) -> bool:
    return True


def fail_everywhere(disk: Path, number: int, fails: Callable[[Call], bool], every: int, once: bool) -> int:
    """Lives on disks that fail at one place or from there on; how many there were."""
    for point in itertools.count(0, every):
        folder = disk / f"{errno.errorcode[number]}-{once}-{point}"
        failing = Failing(point, number, fails, once)
        ended = suffered(folder, failing)
        assert ended.status == 0
        assert [line for line in ended.said if line.startswith("step")] == [f"step {n}" for n in range(STEPS)]
        if not failing.failed:
            assert ended.said[-1] == "left"
            return point // every
        if fails is is_sync:
            began = any(line.startswith("events") for line in ended.said)
            assert failing.syncs_after == 0 or not began  # SQLite takes back a file that it could not lay out
            assert ended.said[-1].startswith("broken")
        elif not once:
            assert ended.said[-1].startswith("broken")
        check_whole(folder, ended.said)
    raise AssertionError("no life was left whole")


def test_a_sync_that_fails_is_not_tried_again_and_ends_the_journal(disk: Path) -> None:
    failed = fail_everywhere(disk, errno.EIO, is_sync, 5, once=True)
    assert failed >= 3
    print(f"{failed} failed syncs")


def test_a_folder_that_can_not_be_synced_is_no_place_for_a_journal(disk: Path) -> None:
    folder = disk / "run"
    failing = Failing(0, errno.EIO, lambda call: call.name == "fsync" and call.paths[0] == folder, once=True)
    ended = suffered(folder, failing)
    assert ended.said == (
        *(f"step {number}" for number in range(STEPS)),
        f"broken {folder} can't be synced: Input/output error",
    )


def test_a_full_disk_ends_the_journal_and_nothing_else(disk: Path) -> None:
    failed = fail_everywhere(disk, errno.ENOSPC, takes_room, EVERY, once=False)
    assert failed >= 4
    print(f"full from {failed} calls on")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("once", [True, False])
def test_a_failure_of_any_call_loses_nothing_that_was_acknowledged(
    number: int, once: bool, disk: Path
) -> None:
    failed = fail_everywhere(disk, number, anything, 5, once)
    print(f"{failed} calls failed with {errno.errorcode[number]}, {'once' if once else 'from there on'}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_sync_that_fails_is_tried_again(disk: Path) -> None:
    failed = fail_everywhere(disk, errno.EIO, is_sync, 1, once=True)
    print(f"{failed} failed syncs")


def read_only(folder: Path, say: Callable[[str], None]) -> None:
    """Open the journal of a folder that may not be written to, as somebody who is not root."""
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.setuid(pwd.getpwnam("nobody").pw_uid)
    with suppress(DatabaseUnavailable):
        open_book(folder / FILE)
        return
    with Journal(folder) as journal:
        assert journal.write(Line(0, "telemetry", "p0", packet(0)))
    say(journal.broken)


@pytest.mark.parametrize("before", [True, False])
def test_a_folder_that_is_read_only_is_said_and_stays_as_it_is(before: bool, disk: Path) -> None:
    disk.chmod(0o755)  # for somebody who is not root
    folder = disk / "run"
    folder.mkdir()
    if before:
        book, _ = open_book(folder / FILE)
        book.close()
    there = {file.name: file.read_bytes() for file in folder.iterdir()}
    ended = supervised(lambda say: read_only(folder, say), folder, lambda call, said: None)
    folder.chmod(0o755)
    assert ended == Ended(0, (f"{folder} can't be written",))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == there


def test_what_a_full_disk_has_taken_can_still_be_read_and_gone_on_with(disk: Path) -> None:
    failing = Failing(60, errno.ENOSPC, takes_room, once=False)
    ended = suffered(disk / "run", failing)
    assert "disk is full" in ended.said[-1]
    assert not (disk / "run" / EVENTS).exists()
    events, damaged = events_of(disk / "run")
    assert (len(events) > 0, damaged) == (True, [])
    book, notes = open_book(disk / "run" / FILE)
    with book.transaction():
        assert book.events.append(entry(99))
    book.close()
    assert notes == ()
    assert len(events_of(disk / "run")[0]) == len(events) + 1


ROOM_AGAIN = 5
"""Calls that a disk refuses for want of room before somebody has made some."""


def outlive(folder: Path, say: Callable[[str], None], waits: int = 2_000) -> None:
    """Write, wait out a disk that is full, and write on; say what is on the disk."""
    scribe_module.AGAIN_S = 0.01
    with Journal(folder, ThreadScribe(folder / FILE, group_s=0.0)) as journal:
        for number in range(30):
            assert journal.write(Line(number, "telemetry", f"p{number}", packet(number)))
            asyncio.run(journal.settle())
            if not journal.broken:
                say(f"p{number}")
            while journal.broken and waits:
                waits -= 1
                threading.Event().wait(0.005)
    for name, told in journal.troubles():
        say(f"{name}: {told}")


def test_a_journal_whose_sync_has_failed_never_goes_on(disk: Path) -> None:
    """What it should have written may be gone, though a second sync would say that it is there."""
    failed = itertools.count()

    def decide(call: Call, said: Sequence[str]) -> Decision:
        due = len(said) >= 10 and is_sync(call) and next(failed) == 0
        return Fail(errno.EIO) if due else None

    folder = disk / "run"
    folder.mkdir()
    ended = supervised(lambda say: outlive(folder, say, waits=40), folder, decide)
    assert ended.status == 0, ended.said
    *there, told = ended.said
    assert there == [f"p{number}" for number in range(10)]
    assert told.startswith(f"journal_broken: {folder / FILE} ends early: ")
    assert next(failed) == 1, "no other sync"
    assert [one["event_id"] for one in events_of(folder)[0]][:10] == there


def test_a_journal_goes_on_when_a_full_disk_has_room_again_and_says_what_it_lacks(disk: Path) -> None:
    full = itertools.count()

    def decide(call: Call, said: Sequence[str]) -> Decision:
        refused = len(said) >= 10 and is_journal(call) and call.name == "pwrite64"
        return Fail(errno.ENOSPC) if refused and next(full) < ROOM_AGAIN else None

    folder = disk / "run"
    folder.mkdir()
    ended = supervised(lambda say: outlive(folder, say), folder, decide)
    assert ended.status == 0, ended.said
    *there, told = ended.said
    assert told.startswith(f"journal_gap: {folder / FILE} lacks {30 - len(there)} events: ")
    assert told.endswith("disk is full")
    assert 10 <= len(there) < 30
    assert there[-1] == "p29", "it went on to the end"
    events, damaged = events_of(folder)
    assert ([one["event_id"] for one in events], damaged) == (there, [])
    book, notes = open_book(folder / FILE)
    book.close()
    assert notes == ()
