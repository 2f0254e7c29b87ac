"""The real files and those in memory do the same, as far as a running process can see."""

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from esper.checkpoint.files import Files, RealFiles
from esper.checkpoint.store import FOLDER, CheckpointStore
from tests.esper.checkpoint.crashing import RUN, DiskFiles, a_disk
from tests.esper.checkpoint.world import a_checkpoint


@contextmanager
def real() -> Iterator[tuple[Files, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        yield RealFiles(), Path(folder)


@contextmanager
def in_memory() -> Iterator[tuple[Files, Path]]:
    yield DiskFiles(a_disk()), RUN


Open = Callable[[], AbstractContextManager[tuple[Files, Path]]]
both = pytest.mark.parametrize("opened", [real, in_memory])


def written(files: Files, file: Path, content: bytes) -> None:
    with files.create(file) as new:
        view = memoryview(content)
        while view:
            view = view[new.write(view) :]
        new.sync()


@both
def test_what_is_written_can_be_read_renamed_and_removed(opened: Open) -> None:
    with opened() as (files, root):
        folder = root / "a"
        for _ in range(2):
            files.make_folder(folder)
        files.sync_folder(root)
        assert files.names(folder) == []
        written(files, folder / "one", b"12345")
        written(files, folder / "two", b"")
        assert sorted(files.names(folder)) == ["one", "two"]
        assert (files.size(folder / "one"), files.size(folder / "two")) == (5, 0)
        assert files.read(folder / "one", 100) == b"12345"
        assert files.read(folder / "one", 2) == b"12"
        assert files.read(folder / "one", 2, 1) == b"23"
        assert files.read(folder / "one", 9, 3) == b"45"
        assert files.read(folder / "one", 9, 7) == b""
        files.rename(folder / "one", folder / "two")
        files.sync_folder(folder)
        assert files.names(folder) == ["two"]
        assert files.read(folder / "two", 5) == b"12345"
        files.remove(folder / "two")
        assert files.names(folder) == []


@both
@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda files, root: files.names(root / "no"), errno.ENOENT),
        (lambda files, root: files.size(root / "no"), errno.ENOENT),
        (lambda files, root: files.read(root / "no", 1), errno.ENOENT),
        (lambda files, root: files.remove(root / "no"), errno.ENOENT),
        (lambda files, root: files.rename(root / "no", root / "other"), errno.ENOENT),
        (lambda files, root: files.create(root / "no" / "file"), errno.ENOENT),
        (lambda files, root: files.make_folder(root / "no" / "folder"), errno.ENOENT),
        (lambda files, root: files.sync_folder(root / "no"), errno.ENOENT),
        (lambda files, root: files.create(root / "file"), errno.EEXIST),
        (lambda files, root: files.names(root / "file"), errno.ENOTDIR),
        (lambda files, root: files.size(root / "folder"), errno.EINVAL),
        (lambda files, root: files.read(root / "folder", 1), errno.EINVAL),
    ],
)
def test_what_can_t_be_done_is_an_error_and_changes_nothing(
    opened: Open, work: Callable[[Files, Path], object], code: int
) -> None:
    with opened() as (files, root):
        written(files, root / "file", b"content")
        files.make_folder(root / "folder")
        with pytest.raises(OSError) as refused:  # noqa: PT011 - its code is looked at below
            work(files, root)
        assert refused.value.errno == code
        assert sorted(files.names(root)) == ["file", "folder"]
        assert files.read(root / "file", 100) == b"content"


def test_only_plain_files_are_read_and_nothing_blocks(tmp_path: Path) -> None:
    files = RealFiles()
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(tmp_path / "socket"))
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("link", "pipe", "socket", "device"):
        for work in (files.size, lambda file: files.read(file, 10)):
            with pytest.raises(OSError, match="no plain file"):
                work(tmp_path / name)


def test_a_save_makes_each_file_and_each_name_durable_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    run, folder = tmp_path.resolve(), tmp_path.resolve() / FOLDER
    store = CheckpointStore(run, 1)
    store.save(a_checkpoint(0))
    beside = [folder / ".00000001.safetensors.new", folder, folder / ".00000001.json.new", folder]
    assert synced == list(map(str, [run, run.parent, *beside]))
    synced.clear()
    store.save(a_checkpoint(1))
    beside = [folder / ".00000002.safetensors.new", folder, folder / ".00000002.json.new", folder]
    assert synced == list(map(str, [*beside, folder])), "the last for the removal of the old manifest"


def test_a_file_that_becomes_shorter_while_it_is_read_is_read_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"123456")
    real_read = os.preadv

    def cut(handle: int, views: list[memoryview], begin: int) -> int:
        os.truncate(file, 4)
        return real_read(handle, views, begin)

    monkeypatch.setattr(os, "preadv", cut)
    assert RealFiles().read(file, 100) == b"1234"
