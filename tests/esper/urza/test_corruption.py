"""What a disk does to files: every change is seen, nothing changed is loaded, and it can be made again."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from esper.karn.catalogue import CATALOGUE
from esper.urza.container import pack
from esper.urza.errors import Damaged
from esper.urza.library import Library
from esper.urza.names import Kind
from esper.urza.opening import build
from tests.esper.urza.world import (
    a_certificate,
    a_spec,
    entered,
    file_of,
    in_memory,
    its_weights,
    published,
    sha256,
)
from tests.examples import examples

KERNELS = 6


@dataclass
class Store:
    folder: Path
    library: Library


def flipped(content: bytes, other: bytes, stream: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(stream.choice((1, 1, 1, 2, 8))):
        changed[stream.randrange(len(changed))] ^= 1 << stream.randrange(8)
    return bytes(changed)


def cut(content: bytes, other: bytes, stream: random.Random) -> bytes:
    return content[: stream.randrange(len(content))]


def cut_at_the_front(content: bytes, other: bytes, stream: random.Random) -> bytes:
    return content[stream.randrange(1, len(content)) :]


def longer(content: bytes, other: bytes, stream: random.Random) -> bytes:
    return content + stream.randbytes(stream.randrange(1, 600))


def zeroed(content: bytes, other: bytes, stream: random.Random) -> bytes:
    begin = stream.randrange(len(content))
    return content[:begin] + bytes(min(512, len(content) - begin)) + content[begin + 512 :]


def overwritten(content: bytes, other: bytes, stream: random.Random) -> bytes:
    begin = stream.randrange(len(content))
    patch = stream.randbytes(stream.randrange(1, 64))
    return content[:begin] + patch + content[begin + len(patch) :]


def spliced(content: bytes, other: bytes, stream: random.Random) -> bytes:
    at = stream.randrange(len(content))
    return content[:at] + other[at:]


def swapped(content: bytes, other: bytes, stream: random.Random) -> bytes:
    return other


def gone(content: bytes, other: bytes, stream: random.Random) -> None:
    return None


WAYS: tuple[Callable[[bytes, bytes, random.Random], bytes | None], ...] = (
    flipped, flipped, flipped, cut, cut_at_the_front, longer, zeroed, overwritten, spliced, swapped, gone,
)  # fmt: skip


def corrupt_once(store: Store, stream: random.Random) -> str:
    """Spoil one of the kernels, and see all that must come of it; the way it was spoilt."""
    library = store.library
    spec, other = (a_spec(draw, draw % 3) for draw in stream.sample(range(KERNELS), 2))
    ref = library.find(spec) or published(library, spec)
    other_ref = library.find(other) or published(library, other)
    place, way = file_of(store.folder, ref), stream.choice(WAYS)
    content = place.read_bytes()
    spoilt = way(content, file_of(store.folder, other_ref).read_bytes(), stream)
    if spoilt == content:
        return "not changed"
    if spoilt is None:
        place.unlink()
    else:
        place.write_bytes(spoilt)
    damaged = library.stats().damaged
    with pytest.raises(Damaged):
        library.fetch(spec)
    assert library.find(spec) is None
    assert library.wanted() == (spec,)
    assert library.stats().damaged == damaged + 1
    assert not place.exists()
    assert published(library, spec) == ref
    assert library.wanted() == ()
    assert library.fetch(spec).ref == ref
    return way.__name__


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    torch.set_num_threads(1)
    with in_memory() as folder, Library(folder) as library:
        yield Store(folder, library)


@settings(max_examples=examples(30, 1000))
@given(seed=st.integers(0, 2**32))
def test_what_was_changed_on_disk_is_refused_put_away_and_made_again(store: Store, seed: int) -> None:
    corrupt_once(store, random.Random(seed))


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_ten_thousand_corruptions_are_all_refused(store: Store) -> None:
    stream = random.Random(20)
    ways = [corrupt_once(store, stream) for _ in range(10_200)]
    spoilt = [way for way in ways if way != "not changed"]
    assert len(spoilt) >= 10_000
    assert set(spoilt) == {way.__name__ for way in WAYS}
    assert len(list(store.folder.glob("quarantine/*"))) <= 32


@settings(max_examples=examples(100, 1000))
@given(seed=st.integers(0, 2**32))
def test_even_with_a_matching_digest_nothing_is_loaded_that_the_stream_does_not_give(
    store: Store, seed: int
) -> None:
    stream = random.Random(seed)
    spec = a_spec(100 + seed, seed % 3)
    ref = published(store.library, spec)
    content = file_of(store.folder, ref).read_bytes()
    entered(store.folder, ref, flipped(content, content, stream))
    built = build(spec, CATALOGUE).state_dict()
    try:
        module = store.library.fetch(spec).module
    except Damaged:
        assert store.library.find(spec) is None
        published(store.library, spec)
        module = store.library.fetch(spec).module
    held = module.state_dict()
    assert all(torch.equal(held[name].view(torch.uint8), built[name].view(torch.uint8)) for name in built)


def test_a_file_of_other_code_or_versions_is_refused_under_a_row_that_says_the_present_ones(
    store: Store,
) -> None:
    spec = a_spec(50)
    ref = published(store.library, spec)
    stale = replace(a_certificate(spec), guard_digest=sha256(b"another torch"))
    name = entered(store.folder, ref, pack(Kind.KERNEL, spec, stale, its_weights(spec)))
    with pytest.raises(Damaged, match="made for other versions than the catalogue says"):
        store.library.fetch(spec)
    assert store.library.find(spec) is None
    assert not file_of(store.folder, name).exists()
    assert store.library.wanted() == (spec,)
    assert published(store.library, spec) == ref
