from pathlib import Path

import pytest
import torch
from torch import Tensor

from esper.workloads.cache import cache_folder, cached, digest


class Maker:
    """Counts how often the data are made."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"inputs": torch.arange(6.0).reshape(2, 3), "targets": torch.tensor([1, 2])}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "esper-grow"


def test_data_are_made_once_and_then_read(folder: Path) -> None:
    make = Maker()
    first = cached("draw", "torch", make)
    second = cached("draw", "torch", make)
    assert make.calls == 1
    assert digest(first) == digest(second)
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


def test_another_draw_is_made_anew(folder: Path) -> None:
    make = Maker()
    cached("draw", "torch", make)
    cached("another", "torch", make)
    assert make.calls == 2


@pytest.mark.parametrize("place", [0, 8, 60, -1, -20])
def test_a_damaged_file_is_not_believed(folder: Path, place: int) -> None:
    make = Maker()
    good = cached("draw", "torch", make)
    (path,) = folder.iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 0x41
    path.write_bytes(damaged)
    assert digest(cached("draw", "torch", make)) == digest(good)
    assert make.calls == 2
    cached("draw", "torch", make)
    assert make.calls == 2  # mended


def test_a_truncated_file_is_made_anew(folder: Path) -> None:
    make = Maker()
    cached("draw", "torch", make)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    cached("draw", "torch", make)
    assert make.calls == 2


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    make = Maker()
    assert len(cached("draw", "torch", make)["inputs"]) == 2
    assert len(cached("draw", "torch", make)["inputs"]) == 2
    assert make.calls == 2


def test_without_a_stated_folder_it_is_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "esper-grow"


def test_the_digest_tells_names_types_and_shapes_apart() -> None:
    values = torch.zeros(4)
    assert len(
        {
            digest({"a": values}),
            digest({"b": values}),
            digest({"a": values.reshape(2, 2)}),
            digest({"a": values.int()}),
        }
    ) == 4  # fmt: skip
