"""What an opening may cost, whatever lies in the store, and what is said when the store can't be used."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from esper.urza import ledger, records, upkeep
from esper.urza.errors import Unavailable
from esper.urza.ledger import FILE
from esper.urza.library import Library
from esper.urza.objects import objects_at
from tests.esper.urza.world import a_spec, file_of, in_memory, published, sha256


@pytest.fixture
def store() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder / "store"


@pytest.mark.parametrize("suffix", ledger.SUFFIXES)
def test_a_catalogue_that_is_too_large_is_set_aside(store: Path, suffix: str) -> None:
    with Library(store) as library:
        ref = published(library, a_spec(1))
    with (store / f"{FILE}{suffix}").open("ab") as file:
        file.truncate(ledger.FILE_BYTES_MAX + 1)
    with Library(store) as library:
        assert f"{FILE}{suffix} has 67,108,865 bytes" in library.rebuilt
        assert library.fetch(a_spec(1)).ref == ref
    with Library(store) as library:
        assert library.rebuilt == ""


def test_no_more_of_a_list_is_read_than_it_may_have(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Library(store) as library:
        for draw in range(5):
            library.want(a_spec(draw))
        for design in (1, 2):
            library.failed(a_spec(0, design), "no", final=True)
        monkeypatch.setattr(records, "WANTED_MAX", 1)
        assert library.wanted() == (a_spec(0),)
        assert len(library.given_up()) == 1


def strays(store: Path, *sizes: int) -> list[str]:
    """Files without a row, of which none is an artifact."""
    names = []
    for number, size in enumerate(sizes):
        name = f"{sha256(bytes([number]))}.kernel"
        file_of(store, name).parent.mkdir(exist_ok=True)
        with file_of(store, name).open("wb") as file:
            file.truncate(size)
        names.append(name)
    return names


@pytest.mark.parametrize("bounds", [(2, 1 << 30), (99, 2 << 20)])
def test_an_opening_looks_into_some_files_the_smallest_first_and_leaves_the_rest_to_the_next(
    store: Path, monkeypatch: pytest.MonkeyPatch, bounds: tuple[int, int]
) -> None:
    with Library(store) as library:
        ref = published(library, a_spec(1))
    for file in store.glob(f"{FILE}*"):
        file.unlink()
    names = strays(store, 3 << 20, 1 << 20, 3 << 20)
    monkeypatch.setattr(upkeep, "TAKEN_IN_MAX", bounds[0])
    monkeypatch.setattr(upkeep, "TAKEN_IN_BYTES_MAX", bounds[1])
    with Library(store) as library:
        assert library.taken_in == 1
        assert library.fetch(a_spec(1)).ref == ref
        assert library.stats().quarantined == 1
        assert [file_of(store, name).exists() for name in names] == [True, False, True]
    for _ in range(2):
        Library(store).close()
    assert not any(file_of(store, name).exists() for name in names)


def test_an_opening_looks_into_no_more_than_4096_files_however_small_they_are(store: Path) -> None:
    store.mkdir()
    with closing(objects_at(None, store, "a user")) as objects:
        names = [f"{number:064x}.kernel" for number in range(5_000)]
        assert upkeep._affordable(objects, names) == names[:4_096], "none of them costs a byte"


def test_a_file_that_is_larger_than_an_artifact_is_not_read_and_does_not_wait(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Library(store).close()
    large, small = strays(store, upkeep.ARTIFACT_BYTES_MAX + 1, 1 << 20)
    monkeypatch.setattr(upkeep, "TAKEN_IN_BYTES_MAX", 1 << 20)
    Library(store).close()
    assert not file_of(store, large).exists()
    assert not file_of(store, small).exists()


@pytest.mark.parametrize(
    "use",
    [
        lambda library: library.find(a_spec(1)),
        lambda library: library.fetch(a_spec(1)),
        lambda library: library.want(a_spec(2), "run"),
        lambda library: library.withdraw([a_spec(2)], "run"),
        lambda library: library.let_go("x", "run"),
        lambda library: published(library, a_spec(2)),
        lambda library: library.wanted(),
    ],
)
def test_a_store_that_was_deleted_while_it_was_open_is_unavailable_however_often_it_is_asked(
    store: Path, use: Callable[[Library], object]
) -> None:
    with Library(store) as library:
        published(library, a_spec(1))
        shutil.rmtree(store)
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"opening\.lock"):
                use(library)
        assert library.stats().kernels == 1, "what is still open can still be asked"
    assert not store.exists()


def test_the_newest_program_is_given_out_though_another_kernel_came_with_it(store: Path) -> None:
    with Library(store) as library:
        first = published(library, a_spec(1), b"sealed with a key that was lost")
        os.unlink(store / "seal.key")
        second = published(library, a_spec(2), b"sealed with the new key")
        third = published(library, a_spec(3))
        for ref in (first, second, third):
            assert library.program(ref.ref) == b"sealed with the new key"
        assert library.stats().quarantined == 0
