"""Whoever looks after the kernel store sees all that is in it, and looking changes nothing."""

import json
from pathlib import Path

import pytest

from contracts.kernels import Strategy
from esper.options import BAD_USAGE, STORE_ORDERS
from esper.run import DONE, main
from esper.urza.library import Library
from esper.urza.names import ArtifactRef
from tests.esper.urza.world import a_certificate, a_spec, file_of, its_weights, published

TOLD = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def asked(capsys: TOLD, store: Path, *words: str) -> str:
    """What the command prints when all is well."""
    assert main(["kernels", *words, "--store", str(store)]) == DONE
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def files(folder: Path) -> dict[Path, bytes]:
    """All files, the catalogue's own bytes left out: it writes down who opened it."""
    kept = (path for path in folder.rglob("*") if path.is_file())
    return {path: b"" if "catalogue" in path.name else path.read_bytes() for path in kept}


def test_everything_is_shown_with_its_state_and_what_was_used_last_first(store: Path, capsys: TOLD) -> None:
    with Library(store) as library:
        spec = a_spec(1)
        first = library.publish(spec, a_certificate(spec, Strategy.FAST), its_weights(spec))
        second = published(library, spec, b"a program")
        other = published(library, a_spec(2, design=1))
        library.tag(first.ref, "best")
        library.want(a_spec(3, design=2))
        library.failed(a_spec(3, design=2), "it was killed after 60 s", final=False)
        library.fetch(spec)
    before = files(store)
    head, table, *lines, last = asked(capsys, store).splitlines()
    assert files(store) == before
    assert str(store) in head
    assert table.split() == [
        "state",
        "blueprint",
        "site",
        "settings",
        "made",
        "version",
        "bytes",
        "name",
        "tags",
    ]
    kernel, *rest = lines
    assert kernel.split()[:5] == ["ready", "BP008", "vector", "4", "width"]
    assert second.ref[:12] in kernel
    assert any(first.ref[:12] in line and "fast" in line and line.endswith("  best") for line in rest)
    assert any(other.ref[:12] in line and "BP004      sequence 2x7" in line for line in rest)
    assert any("program, standard" in line for line in rest)
    assert lines[-2].split()[:5] == ["wanted", "BP002", "tokens", "5x3", "rank"]
    assert lines[-1].strip() == "1 attempt failed: it was killed after 60 s"
    assert last.startswith("3 kernels and 1 program, 0.0 MB of 100.0 MB; 0 held by runs, 1 wanted")


def test_machines_read_the_same_as_json_or_what_has_a_tag_alone(store: Path, capsys: TOLD) -> None:
    with Library(store) as library:
        one, other = published(library, a_spec(1)), published(library, a_spec(2))
    whole = json.loads(asked(capsys, store, "--json", "--set", "kernels.store_mb=7"))
    assert (whole["store"], whole["bytes"]) == (str(store), one.size + other.size)
    assert whole["limit_bytes"] == 7 << 20
    assert [(holding["ref"], holding["recency"]) for holding in whole["holdings"]] == [
        (other.ref, 1),
        (one.ref, 2),
    ]
    assert "is tagged mine too" in asked(capsys, store, "tag", one.ref[:20], "mine", "too")
    (tagged,) = json.loads(asked(capsys, store, "show", "mine", "--json"))["holdings"]
    assert (tagged["ref"], tagged["tags"], tagged["state"]) == (one.ref, ["mine", "too"], "ready")
    asked(capsys, store, "untag", one.ref, "mine", "never there")
    assert json.loads(asked(capsys, store, "show", "mine", "--json"))["holdings"] == []
    with Library(store) as library:
        assert library.tagged("too") == (one,)


def test_collecting_makes_room_and_a_dry_run_only_says_so(store: Path, capsys: TOLD) -> None:
    with Library(store) as library:
        refs = [published(library, a_spec(number), bytes(200_000)) for number in range(8)]
    small = ("collect", "--set", "kernels.store_mb=1")
    before = files(store)
    *would, count, totals = asked(capsys, store, *small, "--dry-run").splitlines()
    assert count == f"{len(would)} artifacts would be removed, 0.6 MB"
    assert totals.startswith("8 kernels and 8 programs, 1.5 MB of 1.0 MB")
    assert files(store) == before
    told = asked(capsys, store, *small)
    assert told.startswith(f"{len(would)} artifacts removed, 0.6 MB")
    gone = [one for one in refs if not file_of(store, one).exists()]
    assert gone
    assert {one.ref[:12] for one in gone} <= set(would)
    assert asked(capsys, store, *small).startswith("0 artifacts removed, 0.0 MB")


def test_what_was_compiled_natively_is_written_to_a_new_file_alone(
    store: Path, tmp_path: Path, capsys: TOLD
) -> None:
    with Library(store) as library:
        ref = published(library, a_spec(), b"a program")
    file = tmp_path / "native"
    assert asked(capsys, store, "program", ref.ref, str(file)) == f"9 bytes in {file}\n"
    assert file.read_bytes() == b"a program"
    assert_refused(capsys, store, ["program", ref.ref, str(file)], "File exists")


def assert_refused(capsys: TOLD, store: Path, words: list[str], said: str) -> None:
    assert main(["kernels", *words, "--store", str(store)]) == BAD_USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("order", STORE_ORDERS)
def test_where_there_is_no_store_none_is_made(tmp_path: Path, order: str, capsys: TOLD) -> None:
    words = {"tag": ["a", "b"], "untag": ["a", "b"], "program": ["a", str(tmp_path / "file")]}.get(order, [])
    (tmp_path / "empty").mkdir()
    for folder in ("nowhere", "empty"):
        assert_refused(capsys, tmp_path / folder, [order, *words], "there is no kernel store in")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tag", "ffff", "best"], "no artifact begins with 'ffff'"),
        (["tag", "", "best"], "no artifact begins with ''"),
        (["tag", "../seal.key", "best"], "no artifact begins with"),
        (["tag", "REF"], "the beginning of a name, then the tags"),
        (["tag", "REF", "bell\a"], "is no tag"),
        (["tag", "REF", "x" * 65], "is no tag"),
        (["program", "REF", "never-written"], "there is no program for"),
        (["collect", "now"], "kernels collect takes no words"),
        (["show", "--dry-run"], "--dry-run goes with collect"),
        (["collect", "--json"], "--json goes with show"),
        (["--set", "kernels.objects=nosuch://place"], "no address that fsspec can reach"),
        (["--set", "kernels.store_mb=none"], "kernels.store_mb"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    store: Path, words: list[str], said: str, capsys: TOLD
) -> None:
    with Library(store) as library:
        ref = published(library, a_spec()).ref
    before = files(store)
    assert_refused(capsys, store, [ref if word == "REF" else word for word in words], said)
    assert files(store) == before
    with Library(store) as library:
        assert [one.tags for one in library.holdings()] == [[]]


def test_an_address_without_kernels_is_refused_and_nothing_is_made_there(
    store: Path, tmp_path: Path, capsys: TOLD
) -> None:
    Library(store).close()
    address = f"kernels.objects={tmp_path}/elsewhere"
    assert_refused(capsys, store, ["--set", address], "no kernels lie at")
    assert not (tmp_path / "elsewhere").exists()
    assert_refused(capsys, store, ["--set", f"kernels.objects=memory://{tmp_path.name}"], "no kernels lie at")


def test_kernels_behind_another_address_are_shown_too(store: Path, tmp_path: Path, capsys: TOLD) -> None:
    address = str(tmp_path / "elsewhere")
    with Library(store, objects=address) as library:
        ref: ArtifactRef = published(library, a_spec())
    told = asked(capsys, store, "--set", f"kernels.objects={address}")
    assert ref.ref[:12] in told
