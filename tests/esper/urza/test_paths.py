"""Names that somebody wrote into the store: none of them ever leads to anything outside it."""

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from esper.urza import schema
from esper.urza.errors import Unavailable, UrzaError
from esper.urza.ledger import FILE
from esper.urza.library import Library
from esper.urza.local import LocalObjects
from esper.urza.names import aside_of, is_aside, is_ref
from esper.urza.objects import Objects
from esper.urza.presence import Presence
from esper.urza.upkeep import QUARANTINE_FILES_MAX
from tests.esper.urza.world import a_spec, file_of, in_memory, published

UPWARDS = ("", "../../", "../../../")
"""Prefixes that lead from a folder of the store to the one around it; none for an absolute path."""


class Column(NamedTuple):
    table: str
    name: str


def columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    """Names and types."""
    found = connection.execute(f"SELECT name, type FROM pragma_table_info('{table}')")
    return [(str(name), str(kind)) for name, kind in found]


def canaries(outside: Path, column: Column) -> Iterator[tuple[str, Path]]:
    """Paths, each to a file or to a full folder of its own, and what must not vanish."""
    for number, upwards in enumerate(UPWARDS):
        inner = outside / f"{column.table}.{column.name}.{number}"
        inner.mkdir(parents=True)
        for canary in (inner / "file", inner / "folder" / "inner"):
            canary.parent.mkdir(exist_ok=True)
            canary.write_bytes(b"precious")
            path = canary if canary.name == "file" else canary.parent
            yield (f"{upwards}{path.relative_to(outside.parent)}" if upwards else str(path)), canary


def attack(folder: Path, outside: Path) -> dict[Column, list[Path]]:
    """For every text column of every table, rows that hold paths there and something plausible elsewhere."""
    attacked: dict[Column, list[Path]] = {}
    connection = sqlite3.connect(folder / FILE)
    with connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (table,) in tables:
            kinds = columns(connection, table)
            for column in (Column(table, name) for name, kind in kinds if kind == "TEXT"):
                for path, canary in canaries(outside, column):
                    values = [path if name == column.name else plausible(name, kind) for name, kind in kinds]
                    marks = ", ".join("?" * len(values))
                    connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)
                    attacked.setdefault(column, []).append(canary)
        for _ in range(QUARANTINE_FILES_MAX):  # so that the others have to leave
            statement = "INSERT INTO quarantine VALUES (?, 1000000, '', '', 1)"
            connection.execute(statement, (aside_of("0" * 64 + ".kernel"),))
    connection.close()
    return attacked


def plausible(name: str, kind: str) -> str | int:
    if kind != "TEXT":
        return 0
    one = uuid.uuid4().hex
    return {"ref": f"{one}{one}.kernel", "kind": "kernel", "user": one}.get(name, one * 2)


@pytest.fixture
def store() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder / "store"


def test_a_path_in_any_text_of_the_catalogue_leads_nowhere(store: Path) -> None:
    with Library(store) as library:
        spoilt = published(library, a_spec(1))
        sound = published(library, a_spec(2), b"program")
        library.want(a_spec(3), "run")
    attacked = attack(store, store.with_name("outside"))
    assert {column.table for column in attacked} == {
        one.split()[2] for one in schema.TABLES if "TABLE" in one
    }
    file_of(store, spoilt).write_bytes(b"spoilt")
    with Library(store) as library:
        for use in (
            lambda: library.fetch(a_spec(1)),
            lambda: library.fetch(a_spec(2)),
            lambda: library.program(sound.ref),
            lambda: published(library, a_spec(3)),
            lambda: library.withdraw([a_spec(4)], "run"),
            library.wanted,
            library.given_up,
        ):
            with suppress(UrzaError):
                use()
        assert library.find(a_spec(1)) is None
        library.limit_bytes = 0
        assert library.collect().bytes == 0
        assert library._records.users() == [], "whoever is called so is not there"
        assert library.stats().quarantined == QUARANTINE_FILES_MAX
    gone = {
        column: left for column, all_ in attacked.items() if (left := [c for c in all_ if not c.exists()])
    }
    assert gone == {}


def local(root: Path) -> Objects:
    return LocalObjects(root, "user")


def remote(root: Path) -> Objects:
    from fsspec.implementations.local import LocalFileSystem

    from esper.urza.remote import RemoteObjects

    return RemoteObjects(LocalFileSystem(), str(root), "user")


@pytest.mark.parametrize("made", [local, remote])
@pytest.mark.parametrize("name", ["", ".", "..", "../canary", "a/../../canary", "/canary", "a\0b"])
def test_no_place_for_files_takes_a_path_for_a_name(
    tmp_path: Path, made: Callable[[Path], Objects], name: str
) -> None:
    objects = made(tmp_path / "store")
    for folder in ("store", "store/quarantine", "store/staged", "store/objects"):
        (tmp_path / folder / "canary").mkdir()
    for use in (
        objects.drop_aside,
        objects.remove,
        objects.discard,
        objects.size,
        lambda name: objects.read(name, 9),
        lambda name: objects.place(objects.stage(b"x"), name),
        lambda name: objects.set_aside(name, "aside"),
    ):
        with pytest.raises(ValueError, match="no name of one file"):
            use(name)
    objects.close()
    assert len(list(tmp_path.rglob("canary"))) == 4


def test_a_user_that_is_called_otherwise_than_users_are_is_neither_alive_nor_removed(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    (tmp_path / "canary").write_bytes(b"precious")
    (tmp_path / "users" / "canary").write_bytes(b"precious")
    for name in ("canary", "../canary", str(tmp_path / "canary"), "", ".."):
        assert not presence.alive(name)
        presence.forget(name)
    assert presence.others() == []
    assert len(list(tmp_path.rglob("canary"))) == 2
    presence.close()
    assert len(list(tmp_path.rglob("*"))) == 3, "its own file is gone"


def test_what_is_set_aside_has_a_name_that_is_known_again() -> None:
    ref = "ab" * 32 + ".program"
    assert is_ref(ref)
    assert is_aside(aside_of(ref))
    assert aside_of(ref) != aside_of(ref)
    for odd in (
        ref,
        f"../{aside_of(ref)}",
        f"{aside_of(ref)}/x",
        aside_of("../../x"),
        aside_of(ref) + "\n",
        "",
    ):
        assert not is_aside(odd)


NOT_A_FOLDER = ("objects", "staged", "quarantine", "users")


@pytest.mark.parametrize("name", [*NOT_A_FOLDER, "opening.lock"])
@pytest.mark.parametrize("put", ["a link", "something else"])
def test_a_store_whose_own_places_are_taken_is_unavailable_and_says_which(
    store: Path, name: str, put: str
) -> None:
    outside = store.with_name("outside")
    Library(store).close()
    place = store / name
    was_folder = place.is_dir()
    place.rename(outside)
    canary = outside / ("f" * 32) if was_folder else outside
    canary.touch()
    if put == "a link":
        place.symlink_to(outside)
    elif was_folder:
        place.write_bytes(b"")
    else:
        place.mkdir()
    handles = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Unavailable, match=str(place)):
        Library(store)
    assert len(os.listdir("/proc/self/fd")) == handles, "nothing stays open"
    assert canary.exists()
    place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
    with Library(store) as library:
        published(library, a_spec(1))
