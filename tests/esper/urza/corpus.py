"""Hostile artifacts, all made here: bytes that lie, that explode, or that are code to whoever opens them.

`FILES` are whole files, `BODIES` are bodies inside a container that is otherwise sound. Code, wherever it
runs, makes the canary: a file whose path is in the artifact.
"""

import gzip
import io
import json
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from contracts.kernels import KernelSpec
from esper.urza.container import MAGIC, PREFIX, Header, pack
from esper.urza.names import Kind
from tests.esper.urza.world import a_certificate, its_weights, sha256, tell

MIB = 1 << 20
BOMB_BYTES = 80 * MIB
"""What a bomb becomes."""
Maker = Callable[[KernelSpec, Path], bytes]


class Touch:
    """Unpickled, it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def a_pickle(_: KernelSpec, canary: Path) -> bytes:
    return pickle.dumps(Touch(canary))


def a_torch_file(_: KernelSpec, canary: Path) -> bytes:
    made = io.BytesIO()
    torch.save({"0.weight": torch.zeros(3, 4), "more": Touch(canary)}, made)
    return made.getvalue()


def an_old_torch_file(_: KernelSpec, canary: Path) -> bytes:
    made = io.BytesIO()
    torch.save(Touch(canary), made, _use_new_zipfile_serialization=False)
    return made.getvalue()


def an_exported_program(_: KernelSpec, canary: Path) -> bytes:
    """`torch.export.load` evaluates what stands where a size's symbol should."""
    sound = zipfile.ZipFile(io.BytesIO(_exported()))
    code = json.dumps(f"__import__('pathlib').Path({str(canary)!r}).touch() or 2")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in sound.namelist():
            content = sound.read(name)
            if name.endswith("models/model.json"):
                text, count = re.subn(r'("expr_str": ?)"[^"]*"', lambda m: m[1] + code, content.decode())
                assert count > 0
                content = text.encode()
            archive.writestr(name, content)
    return made.getvalue()


@cache
def _exported() -> bytes:
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        torch.nn.Linear(4, 4), (torch.zeros(3, 4),), dynamic_shapes=({0: batch},), strict=False
    )
    made = io.BytesIO()
    torch.export.save(program, made)
    return made.getvalue()


def a_script(_: KernelSpec, canary: Path) -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(4, 4), torch.zeros(1, 4)), made)
    return made.getvalue()


@cache
def _zip_bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data/0", bytes(BOMB_BYTES))
    return made.getvalue()


def a_zip_bomb(_: KernelSpec, __: Path) -> bytes:
    return _zip_bomb()


def a_zip_that_climbs(_: KernelSpec, canary: Path) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"../../../../../../{canary}", b"")
    return made.getvalue()


@cache
def _gzip_bomb() -> bytes:
    return gzip.compress(bytes(BOMB_BYTES), 1)


def a_gzip_bomb(_: KernelSpec, __: Path) -> bytes:
    return _gzip_bomb()


def a_python_file(_: KernelSpec, canary: Path) -> bytes:
    return f"open({str(canary)!r}, 'w')\n".encode()


def as_published(spec: KernelSpec) -> bytes:
    return pack(Kind.KERNEL, spec, a_certificate(spec), its_weights(spec))


def container(
    spec: KernelSpec,
    body: bytes,
    *,
    stored: bytes | None = None,
    raw_bytes: int | None = None,
    header: bytes | None = None,
    prefix: bytes | None = None,
    deflated: bool = False,
    kind: str = "kernel",
) -> bytes:
    """An artifact of which every part can be a lie; what isn't given is as `pack` would make it."""
    stored = body if stored is None else stored
    raw = len(body) if raw_bytes is None else raw_bytes
    made = Header(Kind(kind), spec, a_certificate(spec), raw, len(stored), sha256(body))
    header = tell(made) if header is None else header
    prefix = PREFIX.pack(MAGIC, 1, int(deflated), len(header), len(stored)) if prefix is None else prefix
    return prefix + header + stored


def cut(spec: KernelSpec, _: Path) -> bytes:
    return as_published(spec)[:-7]


def cut_in_the_header(spec: KernelSpec, _: Path) -> bytes:
    return as_published(spec)[:90]


def with_more_behind(spec: KernelSpec, _: Path) -> bytes:
    return as_published(spec) + b"more"


def another_specification(spec: KernelSpec, _: Path) -> bytes:
    return as_published(KernelSpec(spec.design, spec.draw + 1))


def another_kind(spec: KernelSpec, _: Path) -> bytes:
    return container(spec, its_weights(spec), kind="program")


def another_version(spec: KernelSpec, _: Path) -> bytes:
    content = bytearray(as_published(spec))
    content[8] = 2
    return bytes(content)


def unknown_flags(spec: KernelSpec, _: Path) -> bytes:
    content = bytearray(as_published(spec))
    content[10] |= 4
    return bytes(content)


def a_header_of_4_gib(spec: KernelSpec, _: Path) -> bytes:
    return container(spec, b"", prefix=PREFIX.pack(MAGIC, 1, 0, 2**32 - 1, 0))


def a_body_of_16_eib(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    return container(spec, body, prefix=PREFIX.pack(MAGIC, 1, 0, 0, 2**64 - 1))


def lengths_that_overflow_to_the_right_sum(spec: KernelSpec, _: Path) -> bytes:
    whole = as_published(spec)
    claimed = (len(whole) - PREFIX.size - 2**32 + 1) % 2**64
    return PREFIX.pack(MAGIC, 1, 0, 2**32 - 1, claimed) + whole[PREFIX.size :]


def a_negative_length(spec: KernelSpec, _: Path) -> bytes:
    return container(spec, its_weights(spec), raw_bytes=-1)


def a_raw_length_of_16_eib(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    return container(spec, body, stored=zlib.compress(body), raw_bytes=2**63 - 1, deflated=True)


def a_length_with_ten_thousand_digits(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    header = tell(Header(Kind.KERNEL, spec, a_certificate(spec), 7, len(body), sha256(body)))
    return container(spec, body, header=header.replace(b'"raw_bytes":7', b'"raw_bytes":' + b"9" * 10_000))


def a_deflate_bomb(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    return container(spec, body, stored=zlib.compress(bytes(4 * MIB), 9), deflated=True)


def a_large_deflate_bomb(spec: KernelSpec, _: Path) -> bytes:
    """Larger than such a kernel can be, so it is not even read."""
    return container(spec, its_weights(spec), stored=_bomb(), deflated=True)


@cache
def _bomb() -> bytes:
    return zlib.compress(bytes(BOMB_BYTES), 1)


def deflated_and_more_behind(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    return container(spec, body, stored=zlib.compress(body) + b"more", deflated=True)


def deflated_and_cut(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    return container(spec, body, stored=zlib.compress(body)[:-5], deflated=True)


def a_header_that_nests(spec: KernelSpec, _: Path) -> bytes:
    return container(spec, b"", header=b'{"kind":' + b"[" * 8_000 + b"]" * 8_000 + b"}")


def a_header_with_a_deep_stranger(spec: KernelSpec, _: Path) -> bytes:
    return container(spec, b"", header=b'{"x":' + b'{"x":' * 2_500 + b"1" + b"}" * 2_501)


def a_header_in_bad_utf8(spec: KernelSpec, _: Path) -> bytes:
    sound = as_published(spec)
    return sound.replace(b"BP008", b"\xff\xfe\x80P8", 1)


def a_header_with_a_name_twice(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    header = tell(Header(Kind.KERNEL, spec, a_certificate(spec), len(body), len(body), sha256(body)))
    return container(spec, body, header=b'{"kind":"program",' + header[1:])


def a_header_that_names_a_path(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    header = tell(Header(Kind.KERNEL, spec, a_certificate(spec), len(body), len(body), sha256(body)))
    return container(spec, body, header=header.replace(b"BP008", b"../../../../etc/passwd"))


def a_wrong_digest_inside(spec: KernelSpec, _: Path) -> bytes:
    body = its_weights(spec)
    return as_published(spec).replace(sha256(body).encode(), b"0" * 64)


def tensors(text: bytes, values: bytes, *, length: int | None = None) -> bytes:
    """A safetensors file."""
    return struct.pack("<Q", len(text) if length is None else length) + text + values


def parts(spec: KernelSpec) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Header and values of a sound one."""
    sound = its_weights(spec)
    length = int.from_bytes(sound[:8], "little")
    return json.loads(sound[8 : 8 + length]), sound[8 + length :]


def told(entries: object) -> bytes:
    return json.dumps(entries, separators=(",", ":")).encode()


def changed(spec: KernelSpec, change: Callable[[dict[str, dict[str, Any]]], None]) -> bytes:
    entries, values = parts(spec)
    change(entries)
    return tensors(told(entries), values)


def overlapping(spec: KernelSpec, _: Path) -> bytes:
    return changed(
        spec, lambda entries: entries["2.bias"].update(data_offsets=entries["0.bias"]["data_offsets"])
    )


def out_of_bounds(spec: KernelSpec, _: Path) -> bytes:
    return changed(spec, lambda entries: entries["2.bias"].update(data_offsets=[2**40, 2**40 + 16]))


def negative_offsets(spec: KernelSpec, _: Path) -> bytes:
    return changed(spec, lambda entries: entries["2.bias"].update(data_offsets=[-16, 0]))


def huge_shape(spec: KernelSpec, _: Path) -> bytes:
    return changed(spec, lambda entries: entries["2.bias"].update(shape=[2**62, 4]))


def huge_ints(spec: KernelSpec, _: Path) -> bytes:
    return changed(spec, lambda entries: entries["2.bias"].update(shape=[10**300]))


def wrong_dtype(spec: KernelSpec, _: Path) -> bytes:
    return changed(spec, lambda entries: entries["2.bias"].update(dtype="I32"))


def wrong_shape(spec: KernelSpec, _: Path) -> bytes:
    return changed(spec, lambda entries: entries["0.weight"].update(shape=[4, 3]))


def one_missing(spec: KernelSpec, _: Path) -> bytes:
    return changed(spec, lambda entries: entries.pop("2.bias") and None)


def one_more(spec: KernelSpec, _: Path) -> bytes:
    return changed(spec, lambda entries: entries.update({"__class__": dict(entries["2.bias"])}))


def with_metadata(spec: KernelSpec, _: Path) -> bytes:
    entries, values = parts(spec)
    return tensors(told({"__metadata__": {"format": "pt"}, **entries}), values)


def a_name_twice(spec: KernelSpec, _: Path) -> bytes:
    entries, values = parts(spec)
    twice = told(entries)[:-1] + b"," + told({"2.bias": entries["2.bias"]})[1:]
    return tensors(twice, values)


def a_hidden_name_twice(spec: KernelSpec, _: Path) -> bytes:
    entries, values = parts(spec)
    twice = told({"2.bias": entries["0.bias"]})[:-1].replace(b"2.bias", b"2.b\\u0069as") + b","
    return tensors(twice + told(entries)[1:], values)


def a_giant_header(spec: KernelSpec, _: Path) -> bytes:
    entries, values = parts(spec)
    return tensors(told(entries) + b" " * 5_000, values)


def a_header_of_16_eib(spec: KernelSpec, _: Path) -> bytes:
    entries, values = parts(spec)
    return tensors(told(entries), values, length=2**64 - 1)


def nested(spec: KernelSpec, _: Path) -> bytes:
    return tensors(b'{"0.bias":' + b"[" * 300 + b"]" * 300 + b"}", b"")


def bad_utf8(spec: KernelSpec, _: Path) -> bytes:
    entries, values = parts(spec)
    return tensors(told(entries).replace(b"2.bias", b"2.\xff\xfeas"), values)


def not_a_number(spec: KernelSpec, _: Path) -> bytes:
    return its_weights(spec)[:-4] + struct.pack("<f", float("nan"))


def infinite(spec: KernelSpec, _: Path) -> bytes:
    return its_weights(spec)[:-4] + struct.pack("<f", float("inf"))


def negative_zero(spec: KernelSpec, _: Path) -> bytes:
    """Equal to a sound value by `==`."""
    entries, values = parts(spec)
    at = entries["2.bias"]["data_offsets"][0]
    return tensors(told(entries), values[:at] + struct.pack("<f", -0.0) + values[at + 4 :])


def other_values(spec: KernelSpec, _: Path) -> bytes:
    return its_weights(KernelSpec(spec.design, spec.draw + 1))


def nothing(_: KernelSpec, __: Path) -> bytes:
    return b""


CODE: tuple[Maker, ...] = (a_pickle, a_torch_file, an_old_torch_file, an_exported_program)
"""Each runs code in the reader that torch or Python has for it."""
FILES: tuple[Maker, ...] = (
    *CODE, a_script, a_zip_bomb, a_zip_that_climbs, a_gzip_bomb, a_python_file, nothing, cut,
    cut_in_the_header,
    with_more_behind, another_specification, another_kind, another_version, unknown_flags, a_header_of_4_gib,
    a_body_of_16_eib, lengths_that_overflow_to_the_right_sum, a_negative_length, a_raw_length_of_16_eib,
    a_length_with_ten_thousand_digits, a_deflate_bomb, a_large_deflate_bomb, deflated_and_more_behind,
    deflated_and_cut, a_header_that_nests, a_header_with_a_deep_stranger, a_header_in_bad_utf8,
    a_header_with_a_name_twice, a_header_that_names_a_path, a_wrong_digest_inside,
)  # fmt: skip
BODIES: tuple[Maker, ...] = (
    *CODE, a_script, nothing, overlapping, out_of_bounds, negative_offsets, huge_shape, huge_ints,
    wrong_dtype,
    wrong_shape, one_missing, one_more, with_metadata, a_name_twice, a_hidden_name_twice, a_giant_header,
    a_header_of_16_eib, nested, bad_utf8, not_a_number, infinite, negative_zero, other_values,
)  # fmt: skip


def artifacts(spec: KernelSpec, canary: Path) -> dict[str, Callable[[], bytes]]:
    """Every hostile file by name; the bodies as deflated, too, where a reader inflates first."""
    made: dict[str, Callable[[], bytes]] = {
        maker.__name__: (lambda maker=maker: maker(spec, canary)) for maker in FILES
    }
    for maker in BODIES:
        made[f"{maker.__name__} as a body"] = lambda maker=maker: container(spec, maker(spec, canary))
    return made
