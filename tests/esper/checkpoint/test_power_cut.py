"""Whatever a power cut leaves, the newest checkpoint that was acknowledged loads, and the next save works."""

import errno
import random
from collections.abc import Iterable

import pytest

from esper.checkpoint import writer
from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.listing import Listing, listing_of
from tests.esper.checkpoint import savers
from tests.esper.checkpoint.crashing import RUN, DiskFiles, a_disk, disk_of, images
from tests.esper.checkpoint.powercut import BadDisk, Counts, Rig, Wrap, the_real, untouched
from tests.esper.checkpoint.world import a_checkpoint, same

FROM_SAVES: tuple[Wrap, ...] = (
    savers.NoTensorsSync,
    savers.NoManifestSync,
    savers.NoFolderSync,
    savers.NoParentSync,
    savers.ManifestFirst,
    savers.OneFsyncForBoth,
    savers.RemovesFirst,
    savers.TensorsGoFirst,
)
"""Savers whose fault shows when the power goes while they save."""


def test_no_power_cut_loses_what_was_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts()
    for keep in (1, 2, 3):
        Rig(keep, again=31, counts=counts).saves(range(4))
    Rig(2, tensors=0, again=7, counts=counts).saves(range(3))
    Rig(2, write_max=90, limit=40, again=67, counts=counts).saves(range(3))
    Rig(1, second_limit=8, counts=counts).killed(range(3))
    _say(capsys, counts)
    assert counts.kill_points >= 250
    assert counts.second_kill_points >= 600
    assert counts.kills >= 20


@pytest.mark.slow
def test_no_power_cut_of_thousands_loses_what_was_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts()
    for seed in range(2):
        for keep in (1, 2, 3):
            for tensors in (0, 1, 3):
                Rig(keep, tensors, again=5, seed=seed, counts=counts).saves(range(5))
                Rig(keep, tensors, write_max=100, again=41, seed=seed, counts=counts).saves(range(4))
            Rig(keep, second_limit=40, seed=seed, counts=counts).killed(range(5))
    _say(capsys, counts)
    assert counts.kill_points >= 1_000
    assert counts.disks >= 10_000


@pytest.mark.parametrize("saver", FROM_SAVES, ids=lambda saver: str(saver.__name__))
def test_a_saver_that_is_wrong_in_one_way_is_found_out(saver: Wrap) -> None:
    with pytest.raises(BadDisk):
        Rig(keep=1, wrap=saver, again=10_000).saves(range(3))


def test_a_saver_that_sweeps_before_names_are_durable_is_found_out() -> None:
    with pytest.raises(BadDisk, match="only"):
        Rig(keep=1, wrap=savers.SweepsUnsynced, second_limit=8).killed(range(3))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_saver_that_writes_over_the_last_one_is_found_out(
    monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    def always_first(names: Iterable[str]) -> Listing:
        return listing_of(names)._replace(next=1)

    monkeypatch.setattr(writer, "listing_of", always_first)
    if in_place:
        monkeypatch.setattr(writer, "beside", str)
    with pytest.raises(BadDisk):
        Rig(keep=1, wrap=savers.InPlace if in_place else untouched, again=10_000).saves(range(3))


def test_a_saver_that_tries_a_failed_fsync_again_is_found_out() -> None:
    def acknowledged(saver: Wrap) -> bool:
        """Whether the second save is acknowledged though an fsync failed; it raises if that is then lost."""
        files = DiskFiles(a_disk())
        store = the_real(2, saver(files))
        store.save(a_checkpoint(0))
        left = [OSError(errno.EIO, "Input/output error")]

        def fails_once(step: str) -> None:
            if step == "sync" and left:
                raise left.pop()

        files.before = fails_once
        try:
            store.save(a_checkpoint(1))
        except CheckpointError:
            newest, done = a_checkpoint(0), False
        else:
            newest, done = a_checkpoint(1), True
        for image in images(files.disk, 200, random.Random(0)):
            found = the_real(2, DiskFiles(disk_of(image))).newest().checkpoint
            if not same(found, newest):
                raise BadDisk(f"{found} is found, not {newest}")
        return done

    assert not acknowledged(untouched)
    with pytest.raises(BadDisk):
        acknowledged(savers.Retries)


def test_what_can_be_found_is_all_that_a_power_cut_can_take_and_nothing_else() -> None:
    files = DiskFiles(a_disk())
    files.sync_folder(RUN.parent)
    file = files.create(RUN / "a.new")
    file.write(memoryview(b"1234"))
    file.sync()
    file.write(memoryview(b"56"))
    file.write(memoryview(b"78"))
    files.rename(RUN / "a.new", RUN / "a")

    def found() -> set[object]:
        return {dict(image[0][1])["run"] for image in images(files.disk, 500, random.Random(0))}  # type: ignore[arg-type]

    contents = {b"1234", b"12345", b"1234\0\0", b"1234\0\x0078", b"123456", b"1234567", b"123456\0\0"}
    contents.add(b"12345678")
    assert found() == {(), *(((name, one),) for name in ("a", "a.new") for one in contents)}
    files.sync_folder(RUN)
    assert found() == {(("a", one),) for one in contents}
    file.sync()
    assert found() == {(("a", b"12345678"),)}
    files.remove(RUN / "a")
    assert found() == {(), (("a", b"12345678"),)}


def _say(capsys: pytest.CaptureFixture[str], counts: Counts) -> None:
    with capsys.disabled():
        print(f"\npower cuts: {counts}")
