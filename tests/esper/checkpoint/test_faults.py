"""Whatever the system refuses, and when: a clear error, the older ones load, and the next save works."""

import errno
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.lock import holding
from esper.checkpoint.store import FOLDER, CheckpointStore
from tests.esper.checkpoint.crashing import RUN, DiskFiles, a_disk, disk_of, images
from tests.esper.checkpoint.world import a_checkpoint, forked, same

READS = {"size", "read"}
"""Operations that only judge older checkpoints while one is saved."""
KEEP = 2


class Refuser:
    """Refuses one operation of a save, before it has any effect or, if it is `late`, after."""

    def __init__(self, last: int, code: int, late: bool) -> None:
        self.left, self.code, self.late = last, code, late
        self.step = ""
        """The operation that was refused."""

    def before(self, step: str) -> None:
        if not self.late:
            self._count(step)

    def after(self, step: str) -> None:
        if self.late:
            self._count(step)

    def _count(self, step: str) -> None:
        self.left -= 1
        if self.left == -1:
            self.step = step
            raise OSError(self.code, os.strerror(self.code))


def refusals(code: int, late: bool) -> Iterator[tuple[DiskFiles, CheckpointStore, Refuser]]:
    """Disks on which three checkpoints were saved, and the first, second, … operation now fails."""
    for last in range(1_000):
        files = DiskFiles(a_disk())
        store = CheckpointStore(RUN, KEEP, files)
        for epoch in range(3):
            store.save(a_checkpoint(epoch))
        refuser = Refuser(last, code, late)
        files.before, files.after = refuser.before, refuser.after
        yield files, store, refuser
        if not refuser.step:
            assert last > 5, "there was something to refuse"
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("code", "late"), [(errno.ENOSPC, False), (errno.EIO, False), (errno.EIO, True), (errno.EROFS, False)]
)
def test_a_refused_operation_fails_the_save_and_nothing_else(code: int, late: bool) -> None:
    steps = set()
    for files, store, refuser in refusals(code, late):
        told = ""
        try:
            store.save(a_checkpoint(3))
        except CheckpointError as error:
            told = str(error)
        failed = bool(refuser.step) and refuser.step not in READS
        assert (os.strerror(code) in told) == failed, (refuser.step, told)
        assert not told or f"{RUN / FOLDER}" in told
        files.before = files.after = lambda step: None
        found = store.newest()
        assert found.passed_over == ()
        assert any(same(found.checkpoint, a_checkpoint(epoch)) for epoch in ((2, 3) if failed else (3,)))
        assert len(store.epochs()) >= KEEP
        for image in images(files.disk, 8, random.Random(0)):
            after = CheckpointStore(RUN, KEEP, DiskFiles(disk_of(image)))
            assert after.newest().passed_over == ()
            assert any(same(after.newest().checkpoint, a_checkpoint(epoch)) for epoch in (2, 3))
        store.save(a_checkpoint(4))
        assert same(store.newest().checkpoint, a_checkpoint(4))
        assert len(files.names(RUN / FOLDER)) == 2 * KEEP, "nothing is left of what failed"
        steps.add(refuser.step)
    changes = {"create", "write", "sync", "rename", "sync_folder", "remove", ""}
    assert steps == (changes if late else changes | READS | {"names"})


@pytest.mark.parametrize("taken", range(4))
def test_a_full_disk_keeps_failing_and_loses_nothing_and_gets_no_fuller(taken: int) -> None:
    """Of a save's four writes, so many are taken; the last is the manifest's."""
    files = DiskFiles(a_disk())
    store = CheckpointStore(RUN, KEEP, files)
    store.save(a_checkpoint(0))

    writes = 0

    def full(step: str) -> None:
        nonlocal writes
        writes += step == "write"
        if step == "write" and writes > taken:
            raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(files.names(RUN / FOLDER))
    for epoch in range(1, 6):
        writes, files.before = 0, full
        with pytest.raises(CheckpointError, match=rf"epoch {epoch} .*writing .*: No space left on device"):
            store.save(a_checkpoint(epoch))
        files.before = lambda step: None
        assert sorted(files.names(RUN / FOLDER)) == before, "what was half written is given back"
    assert same(store.newest().checkpoint, a_checkpoint(0))


@pytest.mark.parametrize("bytes_a_write", [1, 7, 4096])
def test_short_writes_are_gone_on_with(bytes_a_write: int) -> None:
    files = DiskFiles(a_disk(), write_max=bytes_a_write)
    store = CheckpointStore(RUN, KEEP, files)
    store.save(a_checkpoint(0, tensors=1))
    assert same(store.newest().checkpoint, a_checkpoint(0, tensors=1))


def test_a_write_that_takes_nothing_is_not_repeated_for_ever() -> None:
    store = CheckpointStore(RUN, KEEP, DiskFiles(a_disk(), write_max=0))
    with pytest.raises(CheckpointError, match="no more bytes are taken"):
        store.save(a_checkpoint(0))
    assert store.newest().checkpoint is None


def test_what_can_t_be_read_is_passed_over_and_stays() -> None:
    files = DiskFiles(a_disk())
    store = CheckpointStore(RUN, KEEP, files)
    for epoch in range(2):
        store.save(a_checkpoint(epoch))
    left = [OSError(errno.EIO, "Input/output error")]

    def fails_once(step: str) -> None:
        if step == "read" and left:
            raise left.pop()

    files.before = fails_once
    found = store.newest()
    assert same(found.checkpoint, a_checkpoint(0))
    assert found.passed_over == (
        "checkpoint 2 is passed over: 00000002.json can't be read: Input/output error",
    )
    assert same(store.newest().checkpoint, a_checkpoint(1)), "it can be read again"


@pytest.mark.parametrize("step", ["names", "size", "read"])
def test_loading_raises_nothing_but_its_own_error(step: str) -> None:
    files = DiskFiles(a_disk())
    store = CheckpointStore(RUN, KEEP, files)
    store.save(a_checkpoint(0))

    def fails(now: str) -> None:
        if now == step:
            raise MemoryError if step == "read" else OSError(errno.EACCES, "Permission denied")

    files.before = fails
    with pytest.raises(CheckpointError, match=r"Permission denied|not enough memory"):
        store.load(0)
    if step == "names":
        with pytest.raises(CheckpointError, match="can't be listed: Permission denied"):
            store.newest()
        with pytest.raises(CheckpointError, match="can't be listed: Permission denied"):
            store.epochs()
    else:
        assert store.newest().checkpoint is None
        assert len(store.newest().passed_over) == 1


NOBODY = 65534
"""A user who may write nothing here."""


def test_from_a_folder_that_can_only_be_read_it_loads_and_says_why_it_does_not_save() -> None:
    with tempfile.TemporaryDirectory() as outside:
        run = Path(outside) / "run"
        run.mkdir()
        CheckpointStore(run, KEEP).save(a_checkpoint(0))
        names = sorted(path.name for path in run.rglob("*"))
        Path(outside).chmod(0o755)
        for folder in (run, run / FOLDER):
            folder.chmod(0o555)
        told = as_nobody(lambda: tries(run))
        for folder in (run, run / FOLDER):
            folder.chmod(0o755)
        assert sorted(path.name for path in run.rglob("*")) == names
    assert told.splitlines() == [
        "0 (0,)",
        f"the checkpoint of epoch 1 can't be saved in {run / FOLDER}, where the older ones are as they were: "
        "writing .00000002.safetensors.new: Permission denied",
        f"{run} can't be worked on: run.lock: Permission denied",
    ]


def tries(run: Path) -> str:
    """What comes of loading, saving and holding."""
    store = CheckpointStore(run, KEEP)
    found = store.newest().checkpoint
    assert same(found, a_checkpoint(0))
    told = [f"{found.epoch if found else None} {store.epochs()}"]
    for work in (lambda: store.save(a_checkpoint(1)), lambda: holding(run).__enter__()):
        try:
            work()
        except CheckpointError as error:
            told.append(str(error))
    return "\n".join(told)


def as_nobody(work: Callable[[], str]) -> str:
    """What the work gives in a forked process that has no rights over what is not its own."""
    reading, writing = os.pipe()
    pid = forked()
    if not pid:
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(pid, 0)
    return text
