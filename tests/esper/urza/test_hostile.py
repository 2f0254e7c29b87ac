"""Artifacts made by an enemy: none runs code, each is refused, put away, wanted again, and costs little."""

import io
import itertools
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from contracts.kernels import KernelSpec
from esper.urza.errors import Damaged, Missing
from esper.urza.ledger import FILE
from esper.urza.library import Library
from esper.urza.names import ArtifactRef
from tests.esper.urza import corpus, expense
from tests.esper.urza.world import a_spec, entered, file_of, forge_row, published, sha256

ROOT = Path(__file__).parents[3]
NAMES = tuple(corpus.artifacts(a_spec(), Path()))
WAYS = ("same name", "entered")


@dataclass
class Victim:
    """A store in which one kernel after another is replaced."""

    folder: Path
    library: Library
    draws: Iterator[int] = field(default_factory=lambda: itertools.count(0, 2))

    @property
    def canary(self) -> Path:
        return self.folder / "canary"

    def publish(self) -> tuple[KernelSpec, ArtifactRef]:
        spec = a_spec(next(self.draws))
        return spec, published(self.library, spec)

    def refuses(self, spec: KernelSpec) -> str:
        """Fetch it; all that must hold then."""
        before = self.library.stats()
        expense.forget_peak()
        resident = expense.peak_bytes()
        with pytest.raises(Damaged) as refusal:
            self.library.fetch(spec)
        assert expense.peak_bytes() - resident <= 64 << 20
        assert not self.canary.exists()
        assert self.library.find(spec) is None
        assert self.library.wanted()[-1] == spec
        assert self.library.stats().kernels == before.kernels - 1
        published(self.library, spec)
        assert self.library.fetch(spec).certificate == corpus.a_certificate(spec)
        return refusal.value.reason


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("victim")
    with Library(folder) as library:
        yield Victim(folder, library)


def test_the_corpus_has_its_size_and_its_code_is_code(tmp_path: Path) -> None:
    assert len(NAMES) >= 25
    readers: dict[str, Callable[[bytes], object]] = {
        "a_pickle": pickle.loads,
        "a_torch_file": lambda content: torch.load(io.BytesIO(content), weights_only=False),
        "an_old_torch_file": lambda content: torch.load(io.BytesIO(content), weights_only=False),
        "an_exported_program": lambda content: torch.export.load(io.BytesIO(content)),
    }
    assert set(readers) == {maker.__name__ for maker in corpus.CODE}
    for maker in corpus.CODE:
        canary = tmp_path / maker.__name__
        with suppress(AssertionError):  # torch notices something, afterwards
            readers[maker.__name__](maker(a_spec(), canary))
        assert canary.exists(), f"{maker.__name__} would be harmless, and would prove nothing"


@pytest.mark.parametrize("maker", [*corpus.CODE, corpus.nothing, corpus.cut, corpus.with_more_behind])
def test_a_hostile_file_under_a_sound_name_is_refused_and_kept_to_be_looked_at(
    victim: Victim, maker: corpus.Maker
) -> None:
    spec, ref = victim.publish()
    content = maker(spec, victim.canary)
    file_of(victim.folder, ref).write_bytes(content)
    victim.refuses(spec)
    (kept,) = victim.folder.glob(f"quarantine/*-{ref.ref}")
    assert kept.read_bytes() == content


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_with_a_matching_digest_in_the_catalogue_is_refused(victim: Victim, name: str) -> None:
    spec, ref = victim.publish()
    content = corpus.artifacts(spec, victim.canary)[name]()
    entered(victim.folder, ref, content)
    reason = victim.refuses(spec)
    assert "digest than when" not in reason, "the digest was right"


def test_the_hostile_bodies_are_refused_for_what_is_wrong_with_them(victim: Victim) -> None:
    reasons = {
        corpus.overlapping: "is said to lie at",
        corpus.a_name_twice: "twice",
        corpus.a_hidden_name_twice: "twice",
        corpus.wrong_dtype: "is I32",
        corpus.one_more: "other tensors",
        corpus.not_a_number: "not finite",
        corpus.negative_zero: "stream gives",
        corpus.other_values: "stream gives",
    }
    for maker, reason in reasons.items():
        spec, ref = victim.publish()
        entered(victim.folder, ref, corpus.container(spec, maker(spec, victim.canary)))
        assert reason in victim.refuses(spec), maker.__name__


def a_link(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def a_link_to_nothing(place: Path, outside: Path) -> None:
    place.symlink_to(outside.with_name("nothing"))


def a_link_to_a_device(place: Path, outside: Path) -> None:
    place.symlink_to("/dev/zero")


def a_pipe(place: Path, outside: Path) -> None:
    os.mkfifo(place)


def a_socket(place: Path, outside: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)  # a socket's path may be only 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(place.name[:60])
    finally:
        os.chdir(here)
    (place.parent / place.name[:60]).rename(place)


def a_folder(place: Path, outside: Path) -> None:
    (place / "inner").mkdir(parents=True)


def nothing(place: Path, outside: Path) -> None:
    """The file is gone."""


@pytest.mark.parametrize(
    "put", [a_link, a_link_to_nothing, a_link_to_a_device, a_pipe, a_socket, a_folder, nothing]
)
def test_what_is_no_plain_file_is_not_read(
    victim: Victim, tmp_path: Path, put: Callable[[Path, Path], None]
) -> None:
    spec, ref = victim.publish()
    outside = tmp_path / "outside"
    place = file_of(victim.folder, ref)
    outside.write_bytes(place.read_bytes())
    before = outside.read_bytes()
    place.unlink()
    put(place, outside)
    assert "missing" in victim.refuses(spec) if put is nothing else "no plain file" in victim.refuses(spec)
    assert outside.read_bytes() == before


def test_a_folder_of_the_store_that_leads_outside_is_not_followed(victim: Victim, tmp_path: Path) -> None:
    spec, ref = victim.publish()
    shelf = file_of(victim.folder, ref).parent
    shelf.rename(tmp_path / "outside")
    shelf.symlink_to(tmp_path / "outside")
    before = sorted((tmp_path / "outside").iterdir())
    victim.refuses(spec)
    assert sorted((tmp_path / "outside").iterdir()) == before, "nothing was read, written or removed there"
    assert not shelf.is_symlink()


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "/etc/passwd",
        "..",
        "",
        "\0",
        "0" * 64,
        "0" * 64 + ".pt2",
        "a/" * 32 + ".kernel",
    ],
)
def test_a_row_that_names_a_path_leads_nowhere(victim: Victim, name: str) -> None:
    spec, ref = victim.publish()
    forge_row(victim.folder, ref.ref, name, ref.size)
    with pytest.raises(Missing):
        victim.library.fetch(spec)
    assert victim.library.find(spec) is None
    assert victim.library.want(spec)
    assert published(victim.library, spec) == ref
    victim.library.fetch(spec)


@pytest.mark.parametrize("size", [0, -1, 1, 2**62, 90 << 20])
def test_a_row_that_lies_about_the_size_costs_nothing(victim: Victim, size: int) -> None:
    spec, ref = victim.publish()
    forge_row(victim.folder, ref.ref, ref.ref, size)
    victim.refuses(spec)


def test_a_large_file_is_not_read_at_all(victim: Victim) -> None:
    spec, ref = victim.publish()
    with file_of(victim.folder, ref).open("r+b") as file:
        file.truncate(90 << 20)
    forge_row(victim.folder, ref.ref, ref.ref, 90 << 20)
    assert "such a kernel has fewer" in victim.refuses(spec)
    assert not list(victim.folder.glob(f"quarantine/*-{ref.ref}")), "nor is it kept"


def test_kernels_that_were_swapped_are_refused(victim: Victim) -> None:
    (one, first), (two, second) = victim.publish(), victim.publish()
    contents = [file_of(victim.folder, ref).read_bytes() for ref in (second, first)]
    for ref, content in zip((first, second), contents, strict=True):
        file_of(victim.folder, ref).write_bytes(content)
    assert "digest" in victim.refuses(one)
    assert "digest" in victim.refuses(two)


def test_a_row_that_gives_a_specification_the_kernel_of_another_is_refused(victim: Victim) -> None:
    (one, first), (two, second) = victim.publish(), victim.publish()
    connection = sqlite3.connect(victim.folder / FILE)
    with connection:
        connection.execute("DELETE FROM artifacts WHERE ref = ?", (first.ref,))
        connection.execute("UPDATE artifacts SET spec_key = ? WHERE ref = ?", (one.key, second.ref))
    connection.close()
    assert "another specification" in victim.refuses(one)
    assert victim.library.find(two) is None


@pytest.mark.parametrize("maker", [*corpus.CODE, corpus.nothing, corpus.a_zip_bomb])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_program_that_was_not_sealed_here_is_not_given_out(
    tmp_path: Path, maker: corpus.Maker, sealed: bool
) -> None:
    spec, canary = a_spec(design=1), tmp_path / "canary"
    with Library(tmp_path) as library:
        kernel = published(library, spec, b"sound")
        (program,) = tmp_path.glob("objects/*/*.program")
        body = corpus.container(spec, maker(spec, canary), kind="program")
        name = entered(tmp_path, ArtifactRef(program.name, "", 0), body + bytes(32) if sealed else body)
        with pytest.raises(Damaged, match="not sealed here"):
            library.program(kernel.ref)
        with pytest.raises(Missing):
            library.program(name)
        assert not canary.exists()
        assert library.fetch(spec).ref == kernel
        assert library.stats().quarantined == 1


def test_a_large_program_without_our_seal_is_never_held_in_memory(tmp_path: Path) -> None:
    spec = a_spec()
    with Library(tmp_path) as library:
        kernel = published(library, spec, b"sound")
        (program,) = tmp_path.glob("objects/*/*.program")
        large = corpus.container(spec, bytes(24 << 20), kind="program")
        entered(tmp_path, ArtifactRef(program.name, "", 0), large)
        del large
        tracemalloc.start()
        with pytest.raises(Damaged, match="not sealed here"):
            library.program(kernel.ref)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 << 20
    assert list(tmp_path.glob("quarantine/*")) == [], "it is too large to be kept"


def test_files_that_an_enemy_leaves_in_the_store_do_not_hide_the_sound_one(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with Library(tmp_path) as library:
        ref = published(library, a_spec())
    contents = [made() for made in corpus.artifacts(a_spec(), canary).values()]
    for content in contents:
        for kind in ("kernel", "program"):
            place = file_of(tmp_path, f"{sha256(content)}.{kind}")
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
    for name in ("0" * 64 + ".kernel", "objects", "x" * 64 + ".kernel"):
        file_of(tmp_path, name).parent.mkdir(exist_ok=True)
        file_of(tmp_path, name).write_bytes(b"")
    os.mkfifo(file_of(tmp_path, "0" * 63 + "1.kernel"))
    with Library(tmp_path) as library:
        assert library.taken_in > 10, "they look like kernels of this specification until they are opened"
        assert library.fetch(a_spec()).ref == ref
        assert library.stats().programs == 0
        assert library.stats().quarantined == len(list(tmp_path.glob("quarantine/*"))) == 32
        assert published(library, a_spec()) == ref == library.versions(a_spec())[0]
    assert not canary.exists()


def test_what_costs_more_than_64_mib_is_seen() -> None:
    expense.forget_peak()
    resident = expense.peak_bytes()
    bytearray(b"x" * (80 << 20))
    assert expense.peak_bytes() - resident > 64 << 20


@pytest.mark.slow
def test_refusing_costs_at_most_64_mib_and_1_s_of_processor_time_and_nothing_is_done_but_reading(
    tmp_path: Path,
) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "tests.esper.urza.expense", str(tmp_path), *NAMES],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    control, *lines = [line.split("\t") for line in made.stdout.splitlines()]
    assert int(control[2]) > 64 << 20, "what is dear is seen"
    assert float(control[3]) > 0, "and so is time"
    assert control[4] == "compile exec", "what runs code is seen"
    assert [(name, way) for name, way, *_ in lines] == [(name, way) for name in NAMES for way in WAYS]
    assert [line for line in lines if int(line[2]) > 64 << 20] == []
    assert [line for line in lines if float(line[3]) > 1000] == []
    assert [line for line in lines if line[4]] == [], "nothing was run, imported or started"
