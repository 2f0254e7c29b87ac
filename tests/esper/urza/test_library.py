"""Claims about the library: publishing, finding, fetching, wanting, holding, collecting."""

import sqlite3
import threading
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from contracts.growth import Layout
from contracts.kernels import Design, KernelSpec, Strategy
from esper.karn.blueprint import BlueprintError
from esper.karn.catalogue import CATALOGUE, UnknownBlueprint
from esper.urza.errors import Damaged, Missing, Unavailable, Unfit
from esper.urza.library import Library
from esper.urza.opening import build
from tests.esper.urza.world import a_certificate, a_spec, file_of, its_weights, published


def bits(spec: KernelSpec, module: torch.nn.Module) -> bool:
    """Whether a module is bit for bit what its blueprint builds."""
    built = build(spec, CATALOGUE).state_dict()
    held = module.state_dict()
    return built.keys() == held.keys() and all(
        torch.equal(built[name].view(torch.uint8), held[name].view(torch.uint8)) for name in built
    )


@pytest.mark.parametrize("design", range(3))
def test_what_is_fetched_is_what_was_published_and_what_its_blueprint_builds(
    tmp_path: Path, design: int
) -> None:
    spec = a_spec(design=design)
    with Library(tmp_path) as library:
        ref = published(library, spec)
        assert library.find(spec) == ref
        first, second = library.fetch(spec), library.fetch(spec)
    assert first.ref == ref
    assert first.certificate == a_certificate(spec)
    assert bits(spec, first.module)
    assert first.module is not second.module, "each graft owns its own"


def test_what_is_not_there_is_missing_and_stays_so(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        published(library, a_spec(1))
        assert library.find(a_spec(2)) is None
        with pytest.raises(Missing):
            library.fetch(a_spec(2))
        assert library.wanted() == ()


def test_a_published_kernel_is_there_after_the_store_was_closed(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        ref = published(library, a_spec())
    with Library(tmp_path) as library:
        assert library.rebuilt == ""
        assert library.fetch(a_spec()).ref == ref


def test_publishing_twice_is_publishing_once(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        first = published(library, a_spec())
        timed = replace(a_certificate(a_spec()), compile_ms=7.0)
        assert library.publish(a_spec(), timed, its_weights(a_spec())) == first
        assert (library.stats().kernels, library.stats().published) == (1, 1)
    assert len(list(tmp_path.glob("objects/*/*"))) == 1


def test_a_certificate_that_rests_on_more_replaces_the_kernel_and_one_on_less_does_not(
    tmp_path: Path,
) -> None:
    spec = a_spec()
    with Library(tmp_path) as library:
        refs = [
            library.publish(spec, a_certificate(spec, strategy), its_weights(spec))
            for strategy in (Strategy.EMERGENCY, Strategy.STANDARD, Strategy.FAST)
        ]
        assert refs[0] != refs[1] == refs[2] == library.find(spec)
        assert library.versions(spec) == (refs[0], refs[1])
        certificate = library.certificate(spec.design)
        assert certificate is not None
        assert certificate.strategy is Strategy.STANDARD


def test_a_certificate_holds_for_every_draw_of_its_design_and_for_no_other_design(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        published(library, a_spec(1))
        assert library.certificate(a_spec(2).design) == a_certificate(a_spec(1))
        assert library.certificate(a_spec(1, design=1).design) is None


def test_kernels_of_other_code_are_neither_found_nor_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Library(tmp_path) as library:
        old = published(library, a_spec())
        monkeypatch.setattr("esper.karn.guard.guarded_versions", lambda: {"torch": "another"})
        assert library.find(a_spec()) is None
        assert library.certificate(a_spec().design) is None
        with pytest.raises(Missing):
            library.fetch(a_spec())
        new = published_now(library)
        assert library.versions(a_spec()) == (old, new)
        assert library.fetch(a_spec()).ref == new


def published_now(library: Library) -> object:
    from esper.karn.guard import guard_digest

    certificate = replace(a_certificate(a_spec()), guard_digest=guard_digest(a_spec().design))
    return library.publish(a_spec(), certificate, its_weights(a_spec()))


def test_what_does_not_belong_together_is_not_published(tmp_path: Path) -> None:
    spec, other = a_spec(1), a_spec(2)
    with Library(tmp_path) as library:
        stale = replace(a_certificate(spec), guard_digest="0" * 64)
        for certificate, weights in (
            (a_certificate(spec), its_weights(other)),
            (a_certificate(spec), its_weights(a_spec(1, design=1))),
            (a_certificate(spec), b""),
            (a_certificate(spec), its_weights(spec) + b"\0"),
            (stale, its_weights(spec)),
        ):
            with pytest.raises(Unfit):
                library.publish(spec, certificate, weights)
        assert library.find(spec) is None
        assert library.stats().kernels == 0
    assert list(tmp_path.glob("objects/*/*")) == []
    assert list(tmp_path.glob("staged/*")) == []


def test_a_specification_that_nothing_builds_is_refused_and_not_wanted(tmp_path: Path) -> None:
    unknown = KernelSpec(Design("BP999", Layout.VECTOR, (4,), 4), 0)
    wrong = KernelSpec(Design("BP008", Layout.VECTOR, (4,), 4, {"rank": 3.0}), 0)
    with Library(tmp_path) as library:
        with pytest.raises(UnknownBlueprint):
            library.want(unknown)
        with pytest.raises(BlueprintError):
            library.publish(wrong, a_certificate(wrong), b"")
        assert library.wanted() == ()


def test_wanted_kernels_are_listed_in_order_until_they_are_published(tmp_path: Path) -> None:
    specs = [a_spec(draw) for draw in (5, 3, 9)]
    with Library(tmp_path) as library:
        assert [library.want(spec) for spec in (*specs, specs[0])] == [True] * 4
        assert library.wanted() == tuple(specs)
    with Library(tmp_path) as library:
        assert library.wanted() == tuple(specs), "the list is durable"
        published(library, specs[1])
        assert library.wanted() == (specs[0], specs[2])
        assert not library.want(specs[1]), "it is there"


def test_a_failure_is_counted_and_a_final_one_takes_the_design_off_the_list(tmp_path: Path) -> None:
    one, two, other = a_spec(1), a_spec(2), a_spec(1, design=1)
    with Library(tmp_path) as library:
        for spec in (one, two, other):
            library.want(spec)
        library.failed(one, "it took too long", final=False)
        (first, *others) = library.holdings()
        assert (first.attempts, first.reason) == (1, "it took too long")
        assert [(waiting.attempts, waiting.reason) for waiting in others] == [(0, "")] * 2
        assert library.wanted() == (one, two, other)
        assert library.given_up() == {}
        library.failed(one, "it took too long again", final=True)
        assert library.wanted() == (other,)
        assert library.given_up() == {one.design.key: "it took too long again"}
        assert not library.want(two)
        assert library.wanted() == (other,)


def test_what_is_withdrawn_is_wanted_no_more_and_the_rest_is(tmp_path: Path) -> None:
    specs = [a_spec(draw) for draw in range(4)]
    with Library(tmp_path) as library:
        for spec in specs:
            library.want(spec)
        library.withdraw([specs[0], specs[2], a_spec(99)])
        assert library.wanted() == (specs[1], specs[3])
        assert library.want(specs[0])
    with Library(tmp_path) as library:
        assert library.wanted() == (specs[1], specs[3], specs[0])


def test_what_was_given_up_may_be_wanted_again_once_it_was_made_or_its_code_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Library(tmp_path) as library:
        library.failed(a_spec(1), "no", final=True)
        library.failed(a_spec(1, design=1), "no", final=True)
        published(library, a_spec(1))
        assert library.given_up() == {a_spec(1, design=1).design.key: "no"}
        assert library.want(a_spec(2))
        monkeypatch.setattr("esper.karn.guard.guarded_versions", lambda: {"torch": "another"})
        assert library.given_up() == {}
        assert library.want(a_spec(2, design=1))


def test_what_is_used_least_recently_is_collected_first(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        refs = {draw: published(library, a_spec(draw)) for draw in range(4)}
        library.fetch(a_spec(0))
        library.limit_bytes = library.stats().bytes - 1
        collected = library.collect()
        assert collected.removed == 1
        assert collected.bytes == library.stats().bytes <= library.limit_bytes
        assert [draw for draw in range(4) if library.find(a_spec(draw)) is None] == [1]
        assert not file_of(tmp_path, refs[1]).exists()
        assert library.fetch(a_spec(0)).ref == refs[0]


def test_what_is_held_is_never_collected_and_can_be_once_it_is_let_go(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        held = published(library, a_spec(0))
        library.hold(held.ref, "run-1")
        library.hold(held.ref, "run-2")
        library.let_go(held.ref, "run-1")
        published(library, a_spec(1))
        library.limit_bytes = 0
        assert library.collect().removed == 1
        assert library.find(a_spec(0)) == held
        library.let_go(held.ref, "run-2")
        assert library.collect().bytes == 0
        assert library.find(a_spec(0)) is None
    assert list(tmp_path.glob("objects/*/*")) == []


def test_nothing_that_is_not_there_can_be_held_or_tagged(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        for name in ("0" * 64 + ".kernel", "../../etc/passwd", "", "0" * 64 + ".kernel\n"):
            with pytest.raises(Missing):
                library.hold(name, "run")
            with pytest.raises(Missing):
                library.tag(name, "best")
            with pytest.raises(Missing):
                library.program(name)
        assert library.stats().held == 0


def test_tags_find_artifacts_again(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        ref = published(library, a_spec(1))
        published(library, a_spec(2))
        library.tag(ref.ref, "demo", "small")
        assert library.tagged("demo") == library.tagged("small") == (ref,)
        assert library.tagged("large") == ()


def test_publishing_over_the_limit_makes_room_and_keeps_the_new_one(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        published(library, a_spec(0))
        library.limit_bytes = library.stats().bytes * 2
        for draw in range(1, 6):
            published(library, a_spec(draw))
            assert library.find(a_spec(draw)) is not None
            assert library.stats().bytes <= library.limit_bytes
        assert library.find(a_spec(0)) is None
        library.limit_bytes = 10
        with pytest.raises(Unfit, match="larger than the store"):
            published(library, a_spec(9))


def test_a_program_is_given_out_as_it_was_published(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        ref = published(library, a_spec(1), b"a program")
        assert library.program(ref.ref) == b"a program"
        assert library.stats().programs == 1
        assert (tmp_path / "seal.key").stat().st_mode & 0o777 == 0o600
        plain = published(library, a_spec(1, design=1))
        with pytest.raises(Missing):
            library.program(plain.ref)
        other = published(library, a_spec(2))
        assert library.program(other.ref) == b"a program", "a program is its design's"


@pytest.mark.parametrize("spoilt", [b"", b"short", bytes(33)])
def test_with_another_key_or_none_no_program_is_given_out(tmp_path: Path, spoilt: bytes) -> None:
    key = tmp_path / "seal.key"
    with Library(tmp_path) as library:
        ref = published(library, a_spec(), b"a program")
        key.write_bytes(spoilt)
        with pytest.raises(Unavailable):
            library.program(ref.ref)
        key.chmod(0o644)
        with pytest.raises(Unavailable, match="0600"):
            library.program(ref.ref)
        key.unlink()
        with pytest.raises(Unavailable):
            library.program(ref.ref)
        key.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Unavailable):
            library.program(ref.ref)
        key.unlink()
        key.write_bytes(bytes(32))
        key.chmod(0o600)
        with pytest.raises(Damaged, match="sealed"):
            library.program(ref.ref)
        assert library.fetch(a_spec()).ref == ref, "kernels need no key"


def test_a_large_kernel_is_deflated_where_that_is_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esper.urza.container.COMPRESS_ABOVE", 100_000)
    spec = KernelSpec(Design("BP002", Layout.VECTOR, (300,), 300, {"rank": 50.0}), 0)
    with Library(tmp_path) as library:
        ref = published(library, spec)
        assert 50_000 < ref.size < 100_000 < len(its_weights(spec)), "half of them are zero"
        assert bits(spec, library.fetch(spec).module)


def test_a_library_is_closed_once_however_often_it_is_asked_to(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.close()
    files = [(tmp_path / "another").open("wb") for _ in range(8)]  # may get the numbers that were given back
    library.close()
    for file in files:
        file.write(b"x")
        file.close()
    assert list(tmp_path.glob("users/*")) == []


def test_a_kernel_that_is_damaged_does_not_hide_an_older_sound_one(tmp_path: Path) -> None:
    spec = a_spec()
    with Library(tmp_path) as library:
        older, newer = (
            library.publish(spec, a_certificate(spec, strategy), its_weights(spec))
            for strategy in (Strategy.FAST, Strategy.STANDARD)
        )
        assert library.find(spec) == newer
        file_of(tmp_path, newer).write_bytes(b"spoilt")
        assert library.fetch(spec).ref == older
        assert library.stats().quarantined == library.stats().damaged == 1


def test_publishing_again_replaces_a_damaged_kernel_that_nobody_has_noticed(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        ref = published(library, a_spec())
        place = file_of(tmp_path, ref)
        place.write_bytes(place.read_bytes()[:-4] + b"\1\2\3\4")
        assert published(library, a_spec()) == ref
        assert library.fetch(a_spec()).ref == ref
        assert library.stats().damaged == 1


def test_a_library_belongs_to_one_thread(tmp_path: Path) -> None:
    raised: list[BaseException] = []

    def use() -> None:
        try:
            library.find(a_spec())
        except sqlite3.ProgrammingError as error:
            raised.append(error)

    with Library(tmp_path) as library:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join(10)
        assert len(raised) == 1
        assert library.find(a_spec()) is None
