"""Files whose digests are right and that lie all the same are passed over, and make nobody allocate."""

import hashlib
import math
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.checkpoint import manifest, reader, tensors
from esper.checkpoint.errors import Damaged
from esper.checkpoint.store import FOLDER, Checkpoint, CheckpointStore
from esper.checkpoint.tensors import lay_out, pieces, tensors_of
from tests.esper.checkpoint.crashing import RUN, DiskFiles
from tests.esper.checkpoint.test_damage import disk_with
from tests.esper.checkpoint.world import DTYPES, NAMES, same_tensors
from tests.esper.checkpoint.world import tensors as any_tensors

MB = 1 << 20
MANIFEST, TENSORS = "00000001.json", "00000001.safetensors"
EMPTY = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "
"""A file of no tensors."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def a_manifest(head: object, record: bytes = b"{}") -> bytes:
    """With the right digest, whatever it says."""
    rest = (head if isinstance(head, bytes) else msgspec.json.encode(head)) + b"\n" + record
    return sha256(rest).encode() + b"\n" + rest


def a_head(values: bytes = EMPTY, **others: object) -> dict[str, object]:
    about = {"name": TENSORS, "bytes": len(values), "sha256": sha256(values)}
    return {"schema": 1, "number": 1, "epoch": 3, "tensors": about, **others}


def about(values: bytes = EMPTY, **others: object) -> dict[str, object]:
    return a_head(values, tensors={**msgspec.to_builtins(a_head(values)["tensors"]), **others})


def passed_over(told: bytes, values: bytes = EMPTY) -> str:
    """What is said of a checkpoint of these two files; an empty text if it is taken."""
    store = CheckpointStore(RUN, 1, DiskFiles(disk_with({MANIFEST: told, TENSORS: values})))
    found = store.newest()
    assert (found.checkpoint is None) == bool(found.passed_over)
    return found.passed_over[0].removeprefix("checkpoint 1 is passed over: ") if found.passed_over else ""


def test_what_tells_the_truth_is_taken() -> None:
    assert passed_over(a_manifest(a_head())) == ""


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (a_head(schema=2), "is of schema 2; this esper reads schema 1"),
        (a_head(schema=2, news="more"), "is of schema 2; this esper reads schema 1"),
        (a_head(schema=0), "is of schema 0"),
        (a_head(schema="1"), "has a head that can't be read"),
        (a_head(number=2), "is the manifest of checkpoint 2"),
        (a_head(epoch=-1), "has a head that can't be read"),
        (a_head(epoch=10**30), "has a head that can't be read"),
        (a_head(news="more"), "has a head that can't be read"),
        (
            about(name="../../secret.safetensors"),
            "names '../../secret.safetensors'; its tensors are 00000001",
        ),
        (about(name="/etc/passwd"), "names '/etc/passwd'"),
        (about(name="00000002.safetensors"), "names '00000002.safetensors'"),
        (about(name=""), "names ''"),
        (about(bytes=-1), "has a head that can't be read"),
        (about(bytes=1 << 62), "has a head that can't be read"),
        (about(bytes=1 << 35), "has 16 bytes; it was written with 34,359,738,368"),
        (about(bytes=15), "has 16 bytes; it was written with 15"),
        (about(sha256="0" * 64), "is not what was written"),
        (about(sha256="00"), "has a head that can't be read"),
        (about(sha256="0" * 64 + "\n"), "has a head that can't be read"),
        (about(pairs=["w"]), "lacks a tensor that the manifest names"),
        (b"", "has a head that can't be read"),
        (b"[" * 100_000, "has a head that can't be read"),
        (b'{"schema":1,\xff}', "has a head that can't be read"),
        (b'{"schema":1', "has a head that can't be read"),
    ],
)
def test_a_manifest_that_lies_is_passed_over_with_the_reason(head: object, told: str) -> None:
    assert told in passed_over(a_manifest(head))


@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"\0" * 200, sha256(b"a").encode(), b"\n" * 66])
def test_a_manifest_that_is_none_is_passed_over(content: bytes) -> None:
    assert passed_over(content).startswith(f"{MANIFEST} is not what was written")
    assert passed_over(a_manifest(b"{}")[:65] + b"{}").startswith(f"{MANIFEST} is not what was written")
    assert passed_over(sha256(b"{}").encode() + b"\n{}") == f"{MANIFEST} has no record"


def a_header(entries: Mapping[str, object] | bytes, values: int = 0) -> bytes:
    header = entries if isinstance(entries, bytes) else msgspec.json.encode(entries)
    return len(header).to_bytes(8, "little") + header + bytes(values)


def entry(
    dtype: str = "F32", shape: tuple[int, ...] = (2,), begin: int = 0, end: int = 8
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (b"", "claims a header of 0 bytes"),
        (b"\x08\0\0", "claims a header of 8 bytes"),
        ((1 << 63).to_bytes(8, "little") + b"{}", "claims a header of 9,223,372,036,854,775,808 bytes"),
        (a_header({"w": entry()}, 7), "has 7 bytes of values; its header says 8"),
        (a_header({"w": entry()}, 9), "has 9 bytes of values; its header says 8"),
        (a_header({"w": entry(begin=4, end=12)}, 12), "lies at (4, 12), not at (0, 8)"),
        (a_header({"w": entry(), "v": entry()}, 8), "lies at (0, 8), not at (8, 16)"),
        (a_header({"w": entry("F128")}, 8), "of dtype 'F128'"),
        (a_header({"w": entry(shape=(-2, -1))}, 8), "a shape that no tensor has"),
        (a_header({"w": entry(shape=(1,) * 65)}, 8), "a shape that no tensor has"),
        (a_header({"w": entry(shape=(0, 1 << 60), end=0)}), "a shape that no tensor has"),
        (a_header({"w": entry(shape=(10**40, 0), end=0)}), "a shape that no tensor has"),
        (a_header({"w": entry(shape=(1 << 40,), end=1 << 42)}), "0 bytes of values; its header says 4,398"),
        (a_header(b'{"w":1}'), "has a header that can't be read"),
        (a_header(b"[" * 50_000), "has a header that can't be read"),
        (a_header(b'{"\xff":1}'), "has a header that can't be read"),
        (a_header(b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"more":1}}', 4), "can't be read"),
        (
            a_header(b'{ "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4),
            "not spelt as it is written",
        ),
        (
            a_header(
                b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
                b'"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}',
                4,
            ),
            "not spelt as it is written",
        ),
        (a_header({"__metadata__": {"w": "x"}}), "has a header that can't be read"),
    ],
)
def test_tensors_that_lie_are_passed_over_with_the_reason(values: bytes, told: str) -> None:
    assert told in passed_over(a_manifest(a_head(values)), values)


@pytest.mark.parametrize(
    ("one", "size"),
    [
        (entry(), 8),
        (entry("F64", (1,)), 8),
        (entry("F64", ()), 8),
        (entry("F64", (1, 3), end=24), 24),
        (entry("F64", (2, 0), end=0), 0),
    ],
)
def test_pairs_that_are_none_are_passed_over(one: dict[str, object], size: int) -> None:
    values = a_header({"w": one}, size)
    assert passed_over(a_manifest(about(values)), values) == "", "as plain numbers they are sound"
    told = passed_over(a_manifest(about(values, pairs=["w"])), values)
    assert told == f"{TENSORS} has no pairs where the manifest says so"


def peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()


def test_files_that_claim_much_make_nobody_allocate(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 1)
    saved = store.save(Checkpoint(0, b"", {"w": torch.ones(4)}))
    values = saved.path.with_suffix(".safetensors")
    head = msgspec.json.decode(saved.path.read_bytes().splitlines()[1])
    for size in (1 << 30, 1 << 36, (1 << 36) + 1):
        claims = {**head, "tensors": {**head["tensors"], "bytes": size}}
        saved.path.write_bytes(a_manifest(claims))
        assert peak_mb(store.newest) < 1
        assert store.newest().checkpoint is None
    with values.open("r+b") as sparse:
        sparse.truncate((1 << 36) + 1)  # a hole that costs no disk
    assert peak_mb(store.newest) < 1
    assert store.newest().checkpoint is None
    size = reader.UNCHECKED_BYTES_MAX + 1
    with values.open("r+b") as sparse:
        sparse.truncate(size)
    saved.path.write_bytes(a_manifest({**head, "tensors": {**head["tensors"], "bytes": size}}))
    assert peak_mb(store.newest) < 2 * reader.PIECE_BYTES / MB + 1, "its digest is made piece by piece"
    assert store.newest().passed_over[0].endswith(f"{TENSORS} is not what was written: its digest is another")
    with saved.path.open("r+b") as sparse:
        sparse.truncate(manifest.MANIFEST_BYTES_MAX + 1)
    assert peak_mb(store.newest) < 1
    assert f"a manifest has at most {manifest.MANIFEST_BYTES_MAX:,}" in store.newest().passed_over[0]
    assert [path.name for path in (tmp_path / FOLDER).glob("*.json")] == [MANIFEST]


@pytest.mark.parametrize("short", [0, 1, 7])
def test_a_large_file_is_loaded_only_when_its_digest_is_right(
    monkeypatch: pytest.MonkeyPatch, short: int
) -> None:
    values = a_header({"w": entry()}, 8)
    monkeypatch.setattr(reader, "UNCHECKED_BYTES_MAX", len(values) - 1)
    monkeypatch.setattr(reader, "PIECE_BYTES", len(values) - short)
    assert passed_over(a_manifest(a_head(values)), values) == ""
    other = values[:-1] + b"\1"
    assert "its digest is another" in passed_over(a_manifest(a_head(values)), other)


@pytest.mark.parametrize(
    ("limit", "most", "told"),
    [("TENSORS_MAX", 2, "claims 3 tensors"), ("HEADER_BYTES_MAX", 100, "claims a header of 168 bytes")],
)
def test_a_header_of_too_many_tensors_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: int, told: str
) -> None:
    names = [str(number) for number in range(3)]
    layout = lay_out(dict.fromkeys(names, torch.ones(1)))
    values = layout.head + bytes(12)
    assert passed_over(a_manifest(a_head(values)), values) == ""
    monkeypatch.setattr(tensors, limit, most)
    assert told in passed_over(a_manifest(a_head(values)), values)


def test_what_does_not_fit_into_memory_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: bytearray, pairs: tuple[str, ...]) -> dict[str, torch.Tensor]:
        raise MemoryError

    assert passed_over(a_manifest(a_head())) == ""
    monkeypatch.setattr(reader, "tensors_of", full)
    assert passed_over(a_manifest(a_head())) == f"{TENSORS} can't be read: there is not enough memory"


HEADERS = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F64", "BOOL", "U8", "F16", ""]),
            "shape": st.lists(st.integers(-1, 4) | st.integers(-(1 << 70), 1 << 70), max_size=3),
            "data_offsets": st.tuples(st.integers(-8, 64), st.integers(-8, 64)),
        }
    ),
    max_size=3,
)


@given(HEADERS | st.binary(max_size=80), st.integers(0, 64), st.tuples(st.sampled_from(["", "w"])))
def test_whatever_a_header_says_it_is_read_whole_or_refused(
    header: dict[str, object] | bytes, values: int, pairs: tuple[str, ...]
) -> None:
    content = bytearray(a_header(header, values))
    try:
        found = tensors_of(content, pairs)
    except Damaged:
        return
    assert isinstance(header, dict)
    assert found.keys() == header.keys()
    assert sum(math.prod(one.shape) * one.element_size() for one in found.values()) == values


@settings(max_examples=50)
@given(st.dictionaries(NAMES, any_tensors(), max_size=4))
def test_a_file_is_read_as_it_was_laid_out(given: dict[str, torch.Tensor]) -> None:
    layout = lay_out(given)
    content = bytearray(b"".join(pieces(layout, given)))
    assert len(content) == layout.nbytes
    assert same_tensors(tensors_of(content, layout.pairs), given)
    widths = [given[name].element_size() for name in layout.names]
    assert [min(width, 8) for width in widths] == sorted((min(width, 8) for width in widths), reverse=True)
    assert len(layout.head) % 8 == 0, "so that all values lie aligned"


def test_large_tensors_are_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "PIECE_BYTES", 64)
    given = {str(number): torch.rand(50).to(dtype) for number, dtype in enumerate(DTYPES[:4])}
    layout = lay_out(given)
    made = [bytes(piece) for piece in pieces(layout, given)]
    assert max(map(len, made[1:])) == 64
    assert same_tensors(tensors_of(bytearray(b"".join(made)), layout.pairs), given)
