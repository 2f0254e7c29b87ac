"""What a store says that it holds: each artifact in its state, and nothing is changed by asking."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from contracts.kernels import Strategy
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.report.holdings import text
from esper.urza.errors import Missing
from esper.urza.holdings import State
from esper.urza.library import Library
from tests.esper.urza.world import a_certificate, a_spec, entered, file_of, its_weights, published


def test_an_artifact_is_shown_as_what_it_is(tmp_path: Path) -> None:
    spec = a_spec(7)
    with Library(tmp_path) as library:
        old = library.publish(spec, a_certificate(spec, Strategy.FAST), its_weights(spec))
        new = published(library, spec)
        library.tag(new.ref, "b", "a")
        library.hold(new.ref, "run-1")
        library.hold(new.ref, "run-2")
        first, second = library.holdings()
    assert (first.ref, first.version, first.recency, first.strategy) == (new.ref, 2, 1, Strategy.STANDARD)
    assert (second.ref, second.version, second.recency, second.strategy) == (old.ref, 1, 2, Strategy.FAST)
    assert (first.tags, first.holders, second.tags, second.holders) == (
        ["a", "b"],
        ["run-1", "run-2"],
        [],
        [],
    )
    assert (first.blueprint_id, first.layout, first.shape) == ("BP008", "vector", (4,))
    assert (first.settings, first.draw, first.kind, first.size) == ({"width": 3.0}, 7, "kernel", new.size)
    assert first.state == second.state == State.READY


def test_a_fetch_brings_an_artifact_to_the_front(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        refs = [published(library, a_spec(number)).ref for number in range(3)]
        library.fetch(a_spec(0))
        assert [one.ref for one in library.holdings()] == [refs[0], refs[2], refs[1]]


def test_a_damaged_one_is_said_to_be_so_and_stays_where_it_is(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        changed, missing, sound = (published(library, a_spec(number)) for number in range(3))
        content = file_of(tmp_path, changed).read_bytes()
        file_of(tmp_path, changed).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        file_of(tmp_path, missing).unlink()
        found = {one.ref: one for one in library.holdings()}
        assert "another digest" in found[changed.ref].reason
        assert "missing" in found[missing.ref].reason
        assert {found[one.ref].state for one in (changed, missing)} == {State.DAMAGED}
        assert found[changed.ref].blueprint_id == ""
        assert found[sound.ref].state is State.READY
        assert library.stats().quarantined == library.stats().damaged == 0


def test_a_row_that_is_not_of_its_file_is_damaged(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        one, other = published(library, a_spec(0)), published(library, a_spec(1))
        content = file_of(tmp_path, other).read_bytes()
        library._records.remove(other.ref)
        name = entered(tmp_path, one, content)
        (held,) = library.holdings()
    assert (held.ref, held.state) == (name, State.DAMAGED)
    assert "another specification" in held.reason


def test_what_no_present_code_would_ask_for_is_old(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        published(library, a_spec())
    others = Catalogue(one for one in CATALOGUE if one.blueprint_id != "BP008")
    with Library(tmp_path, catalogue=others) as library:
        (old,) = library.holdings()
    assert (old.state, old.blueprint_id) == (State.OLD, "BP008")
    assert "there is no blueprint 'BP008'" in old.reason


def test_what_is_wanted_or_given_up_is_shown_with_what_was_tried(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        wanted, hopeless = a_spec(1), a_spec(1, design=1)
        for spec in (wanted, hopeless):
            library.want(spec)
        library.failed(wanted, "it was killed", final=False)
        library.failed(hopeless, "its gradients differ", final=True)
        first, second = library.holdings()
        assert (first.state, first.draw, first.attempts, first.reason) == (
            State.WANTED,
            1,
            1,
            "it was killed",
        )
        assert (second.state, second.blueprint_id, second.reason) == (
            State.GIVEN_UP,
            "BP004",
            "its gradients differ",
        )
        assert (first.ref, first.recency) == ("", 0)


def test_an_artifact_is_named_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        refs = sorted(published(library, a_spec(number)).ref for number in range(17))
        twins = next(one for one, after in pairwise(refs) if one[0] == after[0])
        assert library.named(refs[0]).ref == library.named(refs[0][:30]).ref == refs[0]
        with pytest.raises(Missing, match="more than one"):
            library.named(twins[0])
        for beginning in ("", "%", "_", refs[0] + "x", "zz"):
            with pytest.raises(Missing, match="no artifact"):
                library.named(beginning)


def test_that_native_code_was_refused_is_told_with_the_kernel(tmp_path: Path) -> None:
    spec = a_spec()
    certificate = msgspec.structs.replace(a_certificate(spec), native_refusal="its gradients\ndiffer")
    with Library(tmp_path) as library:
        library.publish(spec, certificate, its_weights(spec))
        published(library, a_spec(design=1))
        lines = text(library.holdings(), library.stats())
    told = [number for number, line in enumerate(lines) if "native" in line]
    assert [lines[number] for number in told] == ["    its native code is not kept: its gradients?differ"]
    assert "BP008" in lines[told[0] - 1]


def test_what_others_wrote_into_the_store_does_not_reach_the_terminal_s_controls(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        ref = published(library, a_spec())
        library._records.hold(ref.ref, "run", library._presence.user)
        library._records.tag(ref.ref, ["\x1b[2J\nready  BP001"])
        lines = text(library.holdings(), library.stats())
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert lines[1].startswith("ready, held")
