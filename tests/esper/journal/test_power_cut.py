"""Power cuts at every call: what was acknowledged is there, whatever else the disk kept."""

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.esper.journal.disks import Disk
from tests.esper.journal.test_kills import STEPS
from tests.esper.journal.workload import check_whole, live
from tests.esper.urza.world import in_memory
from tests.syscalls import Call, Decision, supervised


@pytest.fixture
def place() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def cut_everywhere(place: Path, size: int, every: int, seeds: int) -> int:
    """Cut the power at every so many-th call of a life, in `2 + seeds` ways; how many disks that gave."""
    here, there, disks = place / "here", place / "there", 0
    here.mkdir()
    disk, calls = Disk(here), 0

    def cut_before(call: Call, said: Sequence[str]) -> Decision:
        nonlocal calls, disks
        calls += 1
        if calls % every == 0:
            for seed in range(-2, seeds):
                chance = random.Random(f"{size}/{calls}/{seed}") if seed >= 0 else None
                kept = float(seed == -1) if chance is None else chance.choice((0.1, 0.5, 0.9))
                there.mkdir()
                disk.cut(there, chance, kept)
                check_whole(there, said, power_cut=True)
                shutil.rmtree(there)
                disks += 1
        disk.take(call)
        return None

    ended = supervised(lambda say: live(here, say, STEPS, size), here, cut_before)
    assert (ended.status, ended.said[-1]) == (0, "left")
    return disks


def test_a_power_cut_loses_nothing_that_was_acknowledged(place: Path) -> None:
    disks = cut_everywhere(place, 300, every=9, seeds=2)
    assert disks >= 100
    print(f"{disks} disks")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("size", "seeds"), [(10, 4), (5_000, 2)])
def test_no_power_cut_loses_what_was_acknowledged(size: int, seeds: int, place: Path) -> None:
    disks = cut_everywhere(place, size, every=1, seeds=seeds)
    assert disks >= 1_500
    print(f"{disks} disks")


def test_a_disk_that_calls_a_sync_done_and_forgets_it_is_found_out(place: Path) -> None:
    """The test of the tests: they notice a loss."""
    here, there = place / "here", place / "there"
    here.mkdir()
    disk = Disk(here)
    losses = 0

    def deaf(call: Call, said: Sequence[str]) -> Decision:
        nonlocal losses
        if call.name in ("fsync", "fdatasync"):
            there.mkdir()
            disk.cut(there, None, 0.0)
            try:
                check_whole(there, said, power_cut=True)
            except AssertionError:
                losses += 1
            shutil.rmtree(there)
        else:
            disk.take(call)
        return None

    assert supervised(lambda say: live(here, say, 2, 300), here, deaf).status == 0
    assert losses > 10
