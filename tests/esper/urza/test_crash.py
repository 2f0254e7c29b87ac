"""The process dies before any one of its operations on files or catalogue, and the store is opened again."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from contracts.kernels import KernelSpec
from esper.urza import local
from esper.urza.errors import Damaged, Missing
from esper.urza.ledger import FILE, Ledger
from esper.urza.library import Library
from esper.urza.names import parts
from tests.esper.urza.world import a_spec, file_of, in_memory, published, sha256
from tests.syscalls import Call, supervised

OLD, NEW, OTHER = a_spec(1), a_spec(2), a_spec(3, design=1)
OPERATIONS_MAX = 400


class Died(BaseException):
    """The process is no more: nothing after this has any effect."""


class Mortal:
    """Counts operations on files and catalogue, and dies before the one that it was told."""

    def __init__(self, last: int) -> None:
        self.left = last

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Died

    def __getattr__(self, name: str) -> object:
        """Stands for the module `os`."""
        found = getattr(os, name)
        if not callable(found) or name in {"fstat", "close"}:
            return found

        def mortal(*values: object, **named: object) -> object:
            self.step()
            return found(*values, **named)

        return mortal


def dies(monkeypatch: pytest.MonkeyPatch, folder: Path, last: int, work: Callable[[Library], object]) -> bool:
    """Do the work in a process that dies before its operation number `last`; whether it did."""
    library, mortal = Library(folder), Mortal(last)
    run = Ledger.run

    def mortal_run(self: Ledger, statement: str, *values: str | int) -> int:
        mortal.step()
        return run(self, statement, *values)

    with monkeypatch.context() as patch:
        patch.setattr(local, "os", mortal)
        patch.setattr(Ledger, "run", mortal_run)
        try:
            work(library)
        except Died:
            died = True
        else:
            died = False
    os.close(library._presence._handle)  # as the system does; the file stays
    os.close(library._presence._folder)
    library._presence._handle = -1
    library._records.ledger.close()
    library._objects.close()
    library._open = False
    return died


@pytest.fixture(scope="module")
def sound() -> Iterator[Path]:
    torch.set_num_threads(1)
    with in_memory() as folder:
        with Library(folder / "sound") as library:
            published(library, OLD, b"old program")
            published(library, OTHER)
            library.want(NEW)
        yield folder / "sound"


def each_death(
    monkeypatch: pytest.MonkeyPatch, sound: Path, work: Callable[[Library], object]
) -> Iterator[Path]:
    """The store after a death before each of the operations in turn."""
    for last in range(OPERATIONS_MAX):
        folder = sound.parent / "mortal"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, folder)
        if not dies(monkeypatch, folder, last, work):
            assert last > 3, "there was something to die in"
            return
        yield folder
    raise AssertionError("it never ends")


def all_whole(folder: Path) -> bool:
    """Whether every file that can be seen has the digest in its name, and nothing else is left."""
    files = list(folder.glob("objects/*/*"))
    return not list(folder.glob("staged/*")) and all(
        sha256(file.read_bytes()) == parts(file.name)[0] for file in files
    )


def test_a_death_while_publishing_leaves_all_of_it_or_nothing(
    monkeypatch: pytest.MonkeyPatch, sound: Path
) -> None:
    outcomes = set()
    for folder in each_death(monkeypatch, sound, lambda library: published(library, NEW, b"new program")):
        with Library(folder) as library:
            assert all_whole(folder)
            assert library.stats().quarantined == 0
            assert library.rebuilt == ""
            found = library.find(NEW)
            assert (library.wanted() == (NEW,)) == (found is None), "it is there, or still to be made"
            outcomes.add(found is None)
            for spec in (OLD, OTHER):
                library.fetch(spec)
            kernel = library.find(OLD)
            assert kernel is not None
            assert library.program(kernel.ref) in {b"old program", b"new program"}
            ref = published(library, NEW)
            assert library.fetch(NEW).ref == ref
            assert library.wanted() == ()
    assert outcomes == {True, False}


def test_a_death_while_damage_is_put_away_never_lets_it_be_loaded(
    monkeypatch: pytest.MonkeyPatch, sound: Path
) -> None:
    def spoil_and_fetch(library: Library) -> None:
        kernel = library.find(OLD)
        assert kernel is not None
        place = file_of(sound.parent / "mortal", kernel)
        place.write_bytes(place.read_bytes()[:-1])
        with suppress(Damaged):
            library.fetch(OLD)

    for folder in each_death(monkeypatch, sound, spoil_and_fetch):
        with Library(folder) as library:
            with pytest.raises((Damaged, Missing)):
                library.fetch(OLD)
            assert OLD in library.wanted()
            published(library, OLD)
            library.fetch(OLD)
            assert all_whole(folder)


def test_a_death_while_collecting_loses_nothing_that_is_listed(
    monkeypatch: pytest.MonkeyPatch, sound: Path
) -> None:
    def collect(library: Library) -> None:
        library.limit_bytes = 0
        library.collect()

    def there(library: Library) -> list[KernelSpec]:
        return [spec for spec in (OLD, OTHER) if library.find(spec) is not None]

    seen = set()
    for folder in each_death(monkeypatch, sound, collect):
        with Library(folder) as library:
            assert all_whole(folder)
            for spec in there(library):
                library.fetch(spec)
            seen.add(len(there(library)))
            assert len(list(folder.glob("objects/*/*"))) == library.stats().kernels + library.stats().programs
            library.limit_bytes = 0
            assert library.collect().bytes == 0
            assert list(folder.glob("objects/*/*")) == []
    assert 2 in seen


def test_a_disk_that_takes_no_more_leaves_what_there_was(
    monkeypatch: pytest.MonkeyPatch, sound: Path
) -> None:
    from esper.urza.errors import Unavailable

    folder = sound.parent / "full"
    shutil.copytree(sound, folder)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with Library(folder) as library:
        with monkeypatch.context() as patch:
            patch.setattr("esper.urza.local.os.fsync", full)
            with pytest.raises(Unavailable, match="No space left"):
                published(library, NEW)
        assert library.find(NEW) is None
        assert library.wanted() == (NEW,)
        assert all_whole(folder)
        published(library, NEW)
        library.fetch(NEW)


def test_what_was_taken_down_as_wanted_is_on_disk_before_anybody_hears_so(tmp_path: Path) -> None:
    calls: list[tuple[str, int]] = []

    def want(say: Callable[[str], None]) -> None:
        library = Library(tmp_path)
        say("open")
        library.want(NEW)
        say("wanted")
        library.want(OTHER)

    def watch(call: Call, said: Sequence[str]) -> None:
        if call.paths[0].name == f"{FILE}-wal":
            calls.append((call.name, len(said)))

    assert supervised(want, tmp_path, watch).status == 0
    of_the_wish = [name for name, said in calls if said == 1]
    assert set(of_the_wish[:-1]) >= {"pwrite64"}, "it is written to the log"
    assert of_the_wish[-1] in ("fsync", "fdatasync"), "and then forced out, before the call is over"
