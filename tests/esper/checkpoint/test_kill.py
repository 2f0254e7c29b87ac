"""A process that saves is killed at random moments; what it said was saved loads."""

import os
import random
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from esper.checkpoint.store import FOLDER, CheckpointStore
from tests.esper.checkpoint.world import a_checkpoint, forked, same
from tests.esper.urza.world import in_memory

KEEP = 2
ACK_BYTES = 4
TENSORS, SIZE = 40, 2_000
"""Large enough for a kill to come in the middle of a write."""


@pytest.fixture
def run() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def child(run: Path, first: int) -> tuple[int, int]:
    """A forked process that saves for ever, and writes each epoch into a pipe once it is saved."""
    reading, writing = os.pipe()
    pid = forked()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        store = CheckpointStore(run, KEEP)
        for epoch in range(first, first + 1_000_000):
            store.save(a_checkpoint(epoch, TENSORS, SIZE))
            os.write(writing, epoch.to_bytes(ACK_BYTES, "little"))
    finally:
        os._exit(1)


def acknowledged(pid: int, reading: int, draw: random.Random) -> int:
    """Kill the process at some moment; the last epoch that it said was saved."""
    told = b""
    wanted = draw.randrange(1, 5) * ACK_BYTES
    while len(told) < wanted:
        told += os.read(reading, wanted - len(told))
    select.select([reading], [], [], draw.uniform(0, 0.004))
    os.kill(pid, signal.SIGKILL)
    while more := os.read(reading, 4096):
        told += more
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    os.close(reading)
    return int.from_bytes(told[-ACK_BYTES:], "little")


def kills(run: Path, count: int) -> int:
    """How many of so many kills left something half done."""
    draw, last, torn = random.Random(7), -1, 0
    for _ in range(count):
        last = max(last, acknowledged(*child(run, last + 1), draw))
        names = [path.name for path in (run / FOLDER).iterdir()]
        torn += len(names) != 2 * KEEP
        found = CheckpointStore(run, KEEP).newest()
        assert found.passed_over == ()
        assert found.checkpoint is not None
        assert found.checkpoint.epoch in (last, last + 1), "acknowledged, or whole and just not yet told"
        assert same(found.checkpoint, a_checkpoint(found.checkpoint.epoch, TENSORS, SIZE))
        last = found.checkpoint.epoch
    return torn


def test_a_kill_loses_nothing_that_was_acknowledged(run: Path) -> None:
    kills(run, 6)
    assert CheckpointStore(run, KEEP).epochs()


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing_that_was_acknowledged(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = kills(run, 100)
    with capsys.disabled():
        print(f"\nkills while saving: 100; {torn} left a save half done")
    assert torn >= 5, "the moments were such as matter"
