"""Claims about the list of work: who wants what, what is never on it, and what is left when all are gone."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.growth import Layout
from contracts.kernels import Design, KernelSpec
from esper.urza import reader, upkeep
from esper.urza.container import ARTIFACT_BYTES_MAX
from esper.urza.errors import Missing, Unfit
from esper.urza.ledger import FILE
from esper.urza.library import Library
from tests.esper.urza.world import a_certificate, a_spec, forge_row, in_memory, published, tell

ONE, TWO, THREE = (a_spec(draw) for draw in (1, 2, 3))
HIGH_RISK = KernelSpec(Design("BP050", Layout.VECTOR, (8,), 8, {"width": 2.0, "onset": 0.0}), 5)
QUARANTINE_ONLY = KernelSpec(Design("BP047", Layout.VECTOR, (8,), 8, {"width": 2.0, "onset": 0.0}), 5)
TOO_LARGE = KernelSpec(Design("BP009", Layout.VECTOR, (12_000,), 12_000), 1)
UNKNOWN = KernelSpec(Design("BP999", Layout.VECTOR, (4,), 4), 0)
IMPOSSIBLE = KernelSpec(Design("BP008", Layout.VECTOR, (4,), 4, {"rank": 3.0}), 0)


@pytest.fixture
def store() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def forge_work(folder: Path, *specs: KernelSpec) -> None:
    connection = sqlite3.connect(folder / FILE)
    with connection:
        for spec in specs:
            row = (spec.key, spec.design.key, tell(spec).decode())
            connection.execute("INSERT INTO work VALUES (?, ?, ?, 0, 0, '')", row)
    connection.close()


def killed(library: Library) -> None:
    """As when its process ends without a word: its lock goes, its file and its rows stay."""
    user = library._presence
    library._records.ledger.close()
    library._objects.close()
    library._open = False
    path = library._folder / "users" / user.user
    user.close()
    path.touch()


def test_what_two_want_stays_on_the_list_until_both_have_withdrawn(store: Path) -> None:
    with Library(store) as one, Library(store) as two:
        assert one.want(ONE, "run-1")
        assert two.want(ONE, "run-2")
        assert two.want(TWO, "run-2")
        two.withdraw([ONE, TWO], "run-2")
        assert one.wanted() == (ONE,)
        two.withdraw([ONE], "run-1")
        two.withdraw([ONE])
        assert one.wanted() == (ONE,), "only who wanted it withdraws it"
        one.withdraw([ONE], "run-1")
        assert one.wanted() == two.wanted() == ()


def test_two_runs_of_one_process_want_for_themselves(store: Path) -> None:
    with Library(store) as library:
        for wanter in ("run-1", "run-2", "run-1"):
            assert library.want(ONE, wanter)
        library.withdraw([ONE], "run-1")
        assert library.wanted() == (ONE,)
        library.withdraw([ONE], "run-2")
        assert library.wanted() == ()


def test_who_only_passes_a_request_on_does_not_keep_it_on_the_list(store: Path) -> None:
    with Library(store) as run, Library(store) as smith:
        assert run.want(ONE, "run-1")
        assert smith.want(ONE)
        run.withdraw([ONE], "run-1")
        assert smith.wanted() == ()


def test_a_wanter_that_is_gone_keeps_nothing_from_being_withdrawn(store: Path) -> None:
    gone = Library(store)
    gone.want(ONE, "run-1")
    gone.want(TWO, "run-1")
    killed(gone)
    with Library(store) as library:
        assert library.wanted() == (ONE, TWO), "they stay for the next run"
        assert library.want(ONE, "run-2")
        library.withdraw([ONE], "run-2")
        assert library.wanted() == (TWO,)
    assert list(store.glob("users/*")) == [], "nothing is left of users who are gone"


def test_a_wanter_that_leaves_meanwhile_is_noticed(store: Path) -> None:
    with Library(store) as library:
        other = Library(store)
        other.want(ONE, "run-1")
        library.want(ONE, "run-2")
        killed(other)
        library.withdraw([ONE], "run-2")
        assert library.wanted() == ()


def test_of_what_nobody_is_there_to_want_the_newest_are_left_at_the_next_opening(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LEFT_WANTED_MAX", 3)
    specs = [a_spec(draw) for draw in range(9)]
    with Library(store) as living:
        living.want(specs[0], "run-1")
        with Library(store) as leaving:
            for spec in specs[1:]:
                leaving.want(spec, "run-2")
            Library(store).close()
            assert living.wanted() == tuple(specs), "all are wanted by somebody"
        Library(store).close()
        assert living.wanted() == (specs[0], *specs[-3:])
    Library(store).close()
    with Library(store) as library:
        assert library.wanted() == tuple(specs[-3:])


def test_what_is_made_or_given_up_has_no_wanters_left(store: Path) -> None:
    other = a_spec(1, design=1)
    with Library(store) as library:
        for spec in (ONE, TWO, other):
            library.want(spec, "run-1")
        published(library, ONE)
        library.failed(other, "no", final=True)
        assert library._records.count("wanters") == 1
        library.withdraw([TWO], "run-1")
        assert library._records.count("wanters") == 0


def test_one_of_the_list_is_found_by_its_key_alone(store: Path) -> None:
    with Library(store) as library:
        library.want(ONE, "run-1")
        assert library.wanted_spec(ONE.key) == ONE
        assert library.wanted_spec(TWO.key) is None
        assert library.wanted_spec("../" * 9) is None
        library._records.ledger.run("UPDATE work SET spec = ?", tell(TWO).decode())
        assert library.wanted_spec(ONE.key) is None, "it is another's specification"
        library.want(THREE)
        library.failed(THREE, "no", final=True)
        forge_work(store, THREE)
        assert library.wanted_spec(THREE.key) is None, "its design was given up"


@pytest.mark.parametrize("spec", [HIGH_RISK, QUARANTINE_ONLY, TOO_LARGE])
def test_what_is_for_drills_alone_or_too_large_is_neither_wanted_nor_kept_nor_built(
    store: Path, monkeypatch: pytest.MonkeyPatch, spec: KernelSpec
) -> None:
    monkeypatch.setattr(reader, "build", None)
    with Library(store) as library:
        assert not library.want(spec, "run-1")
        with pytest.raises(Unfit, match=r"drills alone|576,048,000 bytes"):
            library.publish(spec, a_certificate(spec), b"")
        assert library.find(spec) is None
        assert library.stats().wanted == library.stats().kernels == 0


@pytest.mark.parametrize("spec", [HIGH_RISK, QUARANTINE_ONLY, TOO_LARGE, UNKNOWN, IMPOSSIBLE])
def test_a_row_that_somebody_wrote_puts_nothing_on_the_list_that_may_not_be_made(
    store: Path, spec: KernelSpec
) -> None:
    with Library(store) as library:
        library.want(ONE)
        forge_work(store, spec)
        assert library.stats().wanted == 2
        assert library.wanted() == (ONE,)
        assert library.wanted_spec(spec.key) is None


@pytest.mark.parametrize("spec", [HIGH_RISK, TOO_LARGE])
def test_a_row_that_somebody_wrote_makes_nobody_build_what_is_never_kept(
    store: Path, monkeypatch: pytest.MonkeyPatch, spec: KernelSpec
) -> None:
    with Library(store) as library:
        ref = published(library, ONE)
        forge_row(store, ref.ref, ref.ref, ARTIFACT_BYTES_MAX)
        statement = "UPDATE artifacts SET spec_key = ?, design_key = ?, guard = ?"
        library._records.ledger.run(statement, spec.key, spec.design.key, a_certificate(spec).guard_digest)
        assert library.find(spec) is not None
        monkeypatch.setattr(reader, "build", None)
        with pytest.raises(Missing, match=r"drills alone|576,048,000 bytes"):
            library.fetch(spec)


def test_what_is_let_go_is_held_no_more_and_the_rest_is(store: Path) -> None:
    with Library(store) as library, Library(store) as other:
        one, two = published(library, ONE), published(library, TWO)
        for ref in (one, two):
            library.hold(ref.ref, "run-1")
        library.hold(two.ref, "run-2")
        other.let_go(one.ref, "run-1")
        library.limit_bytes = 0
        assert library.collect().removed == 0, "it is held by another user of the store"
        for name in (one.ref, two.ref, "0" * 64 + ".kernel", "../../etc/passwd"):
            library.let_go(name, "run-1")
        assert library.collect().removed == 1
        assert library.find(ONE) is None
        assert library.find(TWO) == two
