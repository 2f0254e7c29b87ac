"""What is saved comes back bit for bit, the newest wins, and so many are kept."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.checkpoint import manifest, store, tensors
from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.store import FOLDER, Checkpoint, CheckpointStore
from tests.esper.checkpoint.crashing import RUN, DiskFiles, a_disk
from tests.esper.checkpoint.world import CHECKPOINTS, a_checkpoint, files_of, same
from tests.esper.urza.world import in_memory


def on_a_disk(keep: int = 2) -> tuple[DiskFiles, CheckpointStore]:
    files = DiskFiles(a_disk())
    return files, CheckpointStore(RUN, keep, files)


def any_is(checkpoint: Checkpoint) -> bool:
    """Whether it is of the past: who asks knows of no rollback."""
    return True


@given(CHECKPOINTS)
def test_every_bit_comes_back(checkpoint: Checkpoint) -> None:
    files, store = on_a_disk()
    saved = store.save(checkpoint)
    found = CheckpointStore(RUN, 2, files).newest()
    assert found.passed_over == ()
    assert same(found.checkpoint, checkpoint)
    assert same(store.load(checkpoint.epoch), checkpoint)
    assert saved.bytes == sum(files.size(RUN / FOLDER / name) for name in files.names(RUN / FOLDER))


def test_real_files_come_back_and_other_tools_read_the_tensors(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    tensors = {
        "weight": whole,
        "turned": whole.T,
        "row": whole[1],
        "same": whole,
        "step": torch.tensor(7.0, dtype=torch.float64),
        "none": torch.empty(0, 3, dtype=torch.int64),
        "half": whole.bfloat16(),
        "mask": whole > 0,
    }
    checkpoint = Checkpoint(3, b'{"stage":"TRAINING"}', tensors)
    saved = CheckpointStore(tmp_path, 1).save(checkpoint)
    manifest, values = files_of(tmp_path, saved.number)
    assert saved.path == manifest
    assert saved.bytes == manifest.stat().st_size + values.stat().st_size
    assert same(CheckpointStore(tmp_path, 1).newest().checkpoint, checkpoint)
    read = safetensors.torch.load_file(values)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], value) for name, value in tensors.items())


def test_what_is_loaded_shares_no_memory_and_can_be_changed(tmp_path: Path) -> None:
    value = torch.ones(3)
    CheckpointStore(tmp_path, 1).save(Checkpoint(0, b"", {"a": value, "b": value}))
    loaded = CheckpointStore(tmp_path, 1).load(0).tensors
    loaded["a"].add_(1)
    assert loaded["b"].tolist() == value.tolist() == [1, 1, 1]
    assert loaded["a"].untyped_storage().nbytes() == 12
    assert same(CheckpointStore(tmp_path, 1).load(0), Checkpoint(0, b"", {"a": value, "b": value}))


def test_a_folder_without_checkpoints_holds_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        empty = CheckpointStore(folder, 1)
        assert empty.newest() == store.Found(None, ())
        assert empty.epochs() == ()
        with pytest.raises(CheckpointError, match=r"no good checkpoint of epoch 4 .*none is damaged"):
            empty.load(4)
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing"
    with pytest.raises(CheckpointError, match="making checkpoints: No such file"):
        CheckpointStore(tmp_path / "missing", 1).save(a_checkpoint(0))


def test_the_number_of_a_save_counts_and_not_its_epoch() -> None:
    _, store = on_a_disk(keep=3)
    for epoch in (5, 9, 7, 7):
        last = Checkpoint(epoch, b"a" * epoch, {"w": torch.rand(2)})
        store.save(last)
    assert same(store.newest().checkpoint, last)
    assert same(store.load(7), last), "of one epoch the newer save"
    assert store.epochs() == (7, 9)


def test_the_way_to_a_checkpoint_leaves_out_what_was_gone_back_from() -> None:
    files, store = on_a_disk(keep=9)
    for number, epoch in enumerate((3, 4, 5, 6, 4, 5), start=1):
        store.save(Checkpoint(epoch, b"%d" % number, {}))
    fresh = CheckpointStore(RUN, 9, files)
    assert [(one.epoch, one.record) for one in fresh.before(5, 9, any_is)] == [(4, b"5"), (3, b"1")]
    assert [one.epoch for one in fresh.before(5, 1, any_is)] == [4]
    assert not [*fresh.before(3, 9, any_is), *fresh.before(5, 0, any_is), *fresh.before(5, -1, any_is)]


def test_what_is_no_past_hides_nothing_that_is_and_is_not_counted() -> None:
    files, store = on_a_disk(keep=9)
    for number, epoch in enumerate((3, 4, 5, 2, 7), start=1):
        store.save(Checkpoint(epoch, b"%d" % number, {}))
    fresh = CheckpointStore(RUN, 9, files)
    found = fresh.before(7, 2, lambda one: one.record in (b"1", b"2"))
    assert [one.record for one in found] == [b"2", b"1"]


def test_a_damaged_one_on_the_way_is_passed_over(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 9)
    for epoch in range(4):
        store.save(a_checkpoint(epoch))
    values = files_of(tmp_path, 3)[1]
    values.write_bytes(values.read_bytes()[:-1])
    assert [one.epoch for one in CheckpointStore(tmp_path, 9).before(3, 2, any_is)] == [1, 0]


@given(st.integers(1, 4), st.integers(1, 9))
def test_so_many_are_kept_and_their_files_are_all_there_is(keep: int, saves: int) -> None:
    files, store = on_a_disk(keep)
    for epoch in range(saves):
        store.save(a_checkpoint(epoch))
    kept = range(max(0, saves - keep), saves)
    assert store.epochs() == tuple(kept)
    assert all(same(store.load(epoch), a_checkpoint(epoch)) for epoch in kept)
    assert len(files.names(RUN / FOLDER)) == 2 * len(kept)


def test_a_damaged_one_counts_for_nothing_when_old_ones_are_removed(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 2)
    for epoch in range(2):
        store.save(a_checkpoint(epoch))
    manifest, values = files_of(tmp_path, 2)
    flipped = bytearray(values.read_bytes())
    flipped[-1] ^= 1
    values.write_bytes(flipped)
    assert store.newest().passed_over != (), "so it is known to be damaged"
    store.save(a_checkpoint(2))
    assert store.epochs() == (0, 2)
    assert manifest.exists(), "it stays for who wants to look"
    store.save(a_checkpoint(3))
    assert store.epochs() == (2, 3)
    assert not any(path.exists() for path in (manifest, values, *files_of(tmp_path, 1)))


def test_leftovers_of_a_crash_are_nothing_and_go_with_the_next_save(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 2)
    store.save(a_checkpoint(0))
    folder = tmp_path / FOLDER
    manifest, values = files_of(tmp_path, 1)
    left = ("00000007.safetensors", ".00000008.safetensors.new", ".00000008.json.new", ".00000001.json.new")
    for name in left:
        (folder / name).write_bytes(values.read_bytes())
    others = {
        "notes.txt",
        "00000009.json.bak",
        "9.json",
        "0000000009.json",
        ".00000009.json",
        "x.safetensors",
    }
    for name in others:
        (folder / name).write_bytes(manifest.read_bytes())
    assert same(store.newest().checkpoint, a_checkpoint(0))
    assert store.newest().passed_over == ()
    assert set(left) < {path.name for path in folder.iterdir()}, "looking removes nothing"
    saved = store.save(a_checkpoint(1))
    assert saved.number == 9, "no number is used twice"
    assert {path.name for path in folder.iterdir()} == {
        *others, manifest.name, values.name, "00000009.json", "00000009.safetensors",
    }  # fmt: skip


def test_no_clock_says_what_is_newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def jumps() -> float:
        raise AssertionError("the time was asked for")

    for clock in ("time", "time_ns", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, jumps)
    store = CheckpointStore(tmp_path, 3)
    for epoch in range(6):
        saved = store.save(a_checkpoint(epoch))
        for path in files_of(tmp_path, saved.number):
            os.utime(path, (4e9 - 7e8 * epoch, 4e9 - 7e8 * epoch))  # each is decades older than the last
        assert same(store.newest().checkpoint, a_checkpoint(epoch))
        assert store.epochs() == tuple(range(max(0, epoch - 2), epoch + 1))


def test_two_saves_at_once_follow_each_other_and_loading_sees_whole_ones() -> None:
    with in_memory() as run:
        saves_at_once(CheckpointStore(run, 1))


def saves_at_once(store: CheckpointStore) -> None:
    store.save(a_checkpoint(0))
    failed: list[BaseException] = []

    def work(epochs: range) -> Callable[[], None]:
        def save() -> None:
            try:
                for epoch in epochs:
                    store.save(a_checkpoint(epoch))
            except BaseException as error:
                failed.append(error)
                raise

        return save

    threads = [threading.Thread(target=work(range(first, 30, 2))) for first in (1, 2)]
    for thread in threads:
        thread.start()
    looks = 0
    while any(thread.is_alive() for thread in threads) or not looks:
        found = store.newest()
        assert found.checkpoint is not None
        assert found.passed_over == ()
        assert same(found.checkpoint, a_checkpoint(found.checkpoint.epoch))
        looks += 1
    for thread in threads:
        thread.join()
    assert failed == []
    assert store.save(a_checkpoint(30)).number == 31


@pytest.mark.parametrize(
    ("checkpoint", "told"),
    [
        (Checkpoint(-1, b"", {}), "epoch -1"),
        (Checkpoint(1 << 53, b"", {}), "epoch 9007199254740992"),
        (Checkpoint(0, b"", {"a": torch.eye(2).to_sparse()}), "'a' has the layout torch.sparse_coo"),
        (Checkpoint(0, b"", {"a": torch.empty(2, device="meta")}), "'a' has no values"),
        (Checkpoint(0, b"", {"a": torch.empty(2, dtype=torch.bits8)}), "'a' is of torch.bits8"),
        (Checkpoint(0, b"", {"__metadata__": torch.ones(2)}), "can't be called __metadata__"),
        (Checkpoint(0, b"", {"\ud800": torch.ones(2)}), "no text"),
        (Checkpoint(0, b"", {"a": torch.ones((1,) * 65)}), "shape that can't be stored"),
        (Checkpoint(0, b"", {"a": torch.empty(0, 1 << 50)}), "shape that can't be stored"),
    ],
)
def test_what_can_t_be_stored_is_refused_and_nothing_is_written(
    tmp_path: Path, checkpoint: Checkpoint, told: str
) -> None:
    with pytest.raises(CheckpointError, match=told):
        CheckpointStore(tmp_path, 1).save(checkpoint)
    assert list(tmp_path.rglob("*")) == []


def test_more_than_may_be_loaded_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RECORD_BYTES_MAX", 10)
    monkeypatch.setattr(store, "TENSOR_BYTES_MAX", 200)
    small = CheckpointStore(tmp_path, 1)
    small.save(Checkpoint(0, b"a" * 10, {"a": torch.ones(20)}))
    for refused, told in (
        (Checkpoint(1, b"a" * 11, {}), "the record has 11 bytes; it may have 10"),
        (Checkpoint(1, b"", {"a": torch.ones(50)}), "the tensors have .* they may have 200"),
    ):
        with pytest.raises(CheckpointError, match=told):
            small.save(refused)
    for limit, most, told in (
        ("TENSORS_MAX", 1, "there are 2 tensors; a checkpoint holds 1"),
        ("HEADER_BYTES_MAX", 100, "the tensors' names take 112 bytes, over 100"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(tensors, limit, most)
            with pytest.raises(CheckpointError, match=told):
                small.save(Checkpoint(1, b"", {"a": torch.ones(1), "b": torch.ones(1)}))
    assert small.epochs() == (0,)
    assert manifest.RECORD_BYTES_MAX + tensors.HEADER_BYTES_MAX < manifest.MANIFEST_BYTES_MAX


def test_when_no_number_is_left_it_says_so_and_still_loads(tmp_path: Path) -> None:
    last = CheckpointStore(tmp_path, 1)
    last.save(a_checkpoint(0))
    alien = tmp_path / FOLDER / "999999999999.json"
    alien.write_text("mine")
    with pytest.raises(CheckpointError, match="999999999999 is the last number"):
        last.save(a_checkpoint(1))
    found = last.newest()
    assert same(found.checkpoint, a_checkpoint(0))
    assert found.passed_over[0].startswith("checkpoint 999999999999 is passed over: 999999999999.json is not")
    assert alien.read_text() == "mine"


def test_fewer_than_one_can_t_be_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep is 0"):
        CheckpointStore(tmp_path, 0)
