"""Claims about the form of an artifact, its numbers, its seal and its name."""

import copy
import pickle
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import nn

from esper.karn.catalogue import CATALOGUE
from esper.urza.container import ARTIFACT_BYTES_MAX, COMPRESS_ABOVE, pack, unpack
from esper.urza.errors import Damaged, Missing, Unavailable, Unfit
from esper.urza.names import Kind, parts, ref_of
from esper.urza.opening import build
from esper.urza.presence import Presence
from esper.urza.seal import Seal
from esper.urza.weights import load, weight_bytes_max, weights_of
from tests.esper.urza.corpus import container
from tests.esper.urza.world import a_certificate, a_spec, its_weights

SPEC = a_spec()


@given(body=st.binary(max_size=2000), kind=st.sampled_from(Kind))
def test_what_is_packed_is_unpacked(body: bytes, kind: Kind) -> None:
    header, raw = unpack(pack(kind, SPEC, a_certificate(SPEC), body), len(body))
    assert bytes(raw) == body
    assert (header.kind, header.spec, header.certificate) == (kind, SPEC, a_certificate(SPEC))


def test_that_native_code_was_refused_is_kept_and_nothing_is_spelt_where_it_was_not() -> None:
    plain = a_certificate(SPEC)
    told = replace(plain, native_refusal="its gradients differ")
    assert b"native_refusal" not in pack(Kind.KERNEL, SPEC, plain, b"")
    header, _ = unpack(pack(Kind.KERNEL, SPEC, told, b""), 0)
    assert header.certificate.miscompiled == "its gradients differ"
    with pytest.raises(Unfit):
        pack(Kind.KERNEL, SPEC, replace(plain, native_refusal="x" * 501), b"")


@given(content=st.binary(max_size=300))
def test_what_was_not_packed_is_refused(content: bytes) -> None:
    with pytest.raises(Damaged):
        unpack(content, 1000)


def test_a_body_larger_than_its_reader_allows_is_refused() -> None:
    packed = pack(Kind.KERNEL, SPEC, a_certificate(SPEC), bytes(1000))
    assert len(unpack(packed, 1000)[1]) == 1000
    with pytest.raises(Damaged, match="may have 999"):
        unpack(packed, 999)


def test_a_large_body_is_deflated_where_that_is_shorter_and_inflates_to_no_more_than_allowed() -> None:
    body = bytes(COMPRESS_ABOVE + 1)
    packed = pack(Kind.PROGRAM, SPEC, a_certificate(SPEC), body)
    assert len(packed) < 100_000
    assert unpack(packed, len(body))[1] == body
    with pytest.raises(Damaged):
        unpack(packed, len(body) - 1)
    assert len(pack(Kind.PROGRAM, SPEC, a_certificate(SPEC), body[:-1])) > COMPRESS_ABOVE


def test_a_deflated_body_ends_with_its_stream_and_its_stream_with_the_body() -> None:
    body = its_weights(SPEC)
    stream = zlib.compress(body)
    bare = zlib.compressobj()
    unfinished = bare.compress(body) + bare.flush(zlib.Z_SYNC_FLUSH)
    assert zlib.decompressobj().decompress(unfinished) == body
    assert unpack(container(SPEC, body, stored=stream, deflated=True), len(body))[1] == body
    for wrong in (stream + b"more", stream + stream, stream[:-1], stream[:-4], unfinished):
        content = container(SPEC, body, stored=wrong, deflated=True)
        with pytest.raises(Damaged, match=f"does not inflate to the {len(body):,} bytes"):
            unpack(content, len(body))


def test_what_could_not_be_read_again_is_not_packed() -> None:
    certificate = a_certificate(SPEC)
    for wrong in (
        replace(certificate, compile_ms=float("nan")),
        replace(certificate, params=[object()]),
        replace(certificate, versions={"x": "y" * 20_000}),
    ):
        with pytest.raises(Unfit):
            pack(Kind.KERNEL, SPEC, wrong, b"")


def test_nothing_larger_than_an_artifact_may_be_is_packed() -> None:
    with pytest.raises(Unfit, match="may have"):
        pack(Kind.PROGRAM, SPEC, a_certificate(SPEC), bytes(ARTIFACT_BYTES_MAX + 1))


class Mixed(nn.Module):
    """Tensors of many kinds, one of them shared, empty or of no dimension."""

    def __init__(self, fill: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.full((2, 3), fill))
        self.shared = self.first
        for number, dtype in enumerate(
            (torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool)
        ):
            self.register_buffer(f"b{number}", torch.full((3,), fill).to(dtype))
        self.register_buffer("scalar", torch.tensor(fill))
        self.register_buffer("empty", torch.zeros(0, 4))
        self.register_buffer("mask", torch.full((2, 2), -torch.inf))
        self.register_buffer("turned", torch.full((2, 3), fill).t())
        self.register_buffer("passing", torch.zeros(2), persistent=False)


@pytest.mark.parametrize("module", [Mixed(), nn.Identity(), nn.GRU(2, 3)])
def test_the_weights_of_a_module_load_into_its_copy(module: nn.Module) -> None:
    weights = weights_of(module)
    assert len(weights) <= weight_bytes_max(module)
    load(copy.deepcopy(module), memoryview(bytearray(weights)))


def test_weights_with_other_values_are_refused_and_the_module_is_unchanged() -> None:
    module = Mixed(1.0)
    before = weights_of(module)
    with pytest.raises(Damaged, match="stream gives"):
        load(module, memoryview(bytearray(weights_of(Mixed(2.0)))))
    assert weights_of(module) == before


def test_a_module_whose_state_is_no_numbers_is_refused() -> None:
    class Odd(nn.Linear):
        def get_extra_state(self) -> object:
            return {"code": print}

        def set_extra_state(self, state: object) -> None:
            raise AssertionError("nothing is set")

    with pytest.raises(Unfit, match="extra_state"):
        weights_of(Odd(1, 1))


@pytest.mark.parametrize("design", range(3))
def test_the_same_specification_has_the_same_weights_and_another_draw_others(design: int) -> None:
    spec = a_spec(7, design)
    assert weights_of(build(spec, CATALOGUE)) == its_weights(spec)
    assert its_weights(a_spec(8, design)) != its_weights(spec)


def test_a_name_is_a_digest_and_a_kind_and_nothing_else() -> None:
    assert parts(ref_of("0a" * 32, Kind.PROGRAM)) == ("0a" * 32, Kind.PROGRAM)
    for name in (
        "0A" * 32 + ".kernel",
        "0a" * 32,
        "0a" * 32 + ".kernel\n",
        "٠" * 64 + ".kernel",
        "../x.kernel",
    ):
        with pytest.raises(Missing):
            parts(name)


def test_a_seal_holds_for_its_key_and_content_and_is_never_shown(tmp_path: Path) -> None:
    seal = Seal.of(tmp_path, make=True)
    stamp = seal.stamp(b"content")
    assert Seal.of(tmp_path, make=True).matches(b"content", stamp), "the key stays"
    assert not seal.matches(b"contenT", stamp)
    assert not seal.matches(b"content", stamp[:-1])
    assert not Seal(bytes(32)).matches(b"content", stamp)
    assert (tmp_path / "seal.key").read_bytes().hex() not in repr(vars_of(seal))
    with pytest.raises(TypeError):
        pickle.dumps(seal)
    with pytest.raises(Unavailable):
        Seal.of(tmp_path / "nowhere", make=True)


def vars_of(seal: Seal) -> list[object]:
    return [repr(seal), *(getattr(seal, name) for name in seal.__slots__)]


def test_a_user_is_alive_until_it_leaves(tmp_path: Path) -> None:
    one, two = Presence(tmp_path), Presence(tmp_path)
    assert one.alive(two.user)
    assert one.alive(one.user)
    assert one.others() == [two.user]
    two.close()
    two.close()
    assert not one.alive(two.user)
    assert one.others() == []
    for odd in ("", "..", "../users", "a/b", "ff", "F" * 32):
        assert not one.alive(odd)
    (tmp_path / "users" / ("f" * 32)).mkdir()
    assert one.alive("f" * 32), "what can't be told is left alone"
    one.close()
