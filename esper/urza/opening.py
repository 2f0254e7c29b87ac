"""Looking into an artifact: what must be true before anything of it is used."""

import hashlib
import hmac

import torch
from torch import nn

from contracts.kernels import Certificate, KernelSpec
from esper.karn.catalogue import Catalogue
from esper.urza import weights
from esper.urza.container import (
    ARTIFACT_BYTES_MAX,
    HEADER_BYTES_MAX,
    PREFIX,
    SEAL_BYTES,
    Header,
    read_header,
    read_prefix,
    unpack,
)
from esper.urza.errors import Damaged
from esper.urza.names import Kind, parts
from esper.urza.objects import Objects
from esper.urza.seal import KEY_BYTES, Seal


def build(spec: KernelSpec, catalogue: Catalogue) -> nn.Module:
    """The module that a specification means, all values drawn from its own stream.

    Raises:
        UnknownBlueprint: the catalogue has none of that id.
        BlueprintError: the design is not the blueprint's.
    """
    blueprint = catalogue.get(spec.design.blueprint_id)
    generator = torch.Generator().manual_seed(spec.draw)
    return blueprint.build(spec.design.site, spec.design.parameters, generator)


def open_kernel(
    objects: Objects, ref: str, size: int, spec: KernelSpec, guard: str, module: nn.Module
) -> Certificate:
    """Verify a kernel's file, and copy its values into `module`, which `build` has made.

    In this order: the size against what such a module can have; SHA-256 of the bytes; prefix, header and
    lengths; kind, specification and guard; then names, shapes, dtypes and values. No more memory is used than
    a sound kernel of this specification would need.

    Raises:
        Damaged: the first of these that does not hold; the module is unchanged.
        Unavailable: the store can't be read now.
    """
    raw_bytes_max = weights.weight_bytes_max(module)
    checksum, _ = parts(ref)
    if not 0 < size <= PREFIX.size + HEADER_BYTES_MAX + raw_bytes_max:
        raise Damaged(f"it is said to have {size:,} bytes; such a kernel has fewer")
    content = objects.read(ref, size)
    if len(content) != size:
        raise Damaged(f"its file has {len(content):,} bytes; it must have {size:,}")
    if hashlib.sha256(content).hexdigest() != checksum:
        raise Damaged("its bytes have another digest than when they were published")
    header, raw = unpack(content, raw_bytes_max)
    _check_same(header, spec, guard)
    weights.load(module, raw)
    return header.certificate


def open_program(objects: Objects, ref: str, seal: Seal) -> tuple[Header, bytes]:
    """A program's bytes, once this store's own seal was found on its file.

    The file is read twice: first without being held, so that a stranger's file costs no memory; then into
    memory, where digest and seal are checked over the very bytes that are handed out.

    Raises:
        Damaged: it is not what was sealed here.
        Unavailable: the store can't be read now.
    """
    survey(objects, ref, seal)
    content = memoryview(objects.read(ref, ARTIFACT_BYTES_MAX))
    sealed, stamp = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    if hashlib.sha256(content).hexdigest() != parts(ref)[0] or not seal.matches(sealed, stamp):
        raise Damaged("its file changed while it was read")
    header, raw = unpack(sealed, ARTIFACT_BYTES_MAX)
    if header.kind is not Kind.PROGRAM:
        raise Damaged(f"it is a {header.kind}, not a program")
    return header, bytes(raw)


def survey(objects: Objects, ref: str, seal: Seal | None) -> Header:
    """An artifact's header, once its digest (and a program's seal) was checked; the body is not looked into.

    Raises:
        Damaged: it is not an artifact of this name, or a program without this store's seal.
        Unavailable: the store can't be read now.
    """
    checksum, kind = parts(ref)
    size = objects.size(ref)
    if size > ARTIFACT_BYTES_MAX:
        raise Damaged(f"its file has {size:,} bytes; an artifact has at most {ARTIFACT_BYTES_MAX:,}")
    tail_bytes = SEAL_BYTES if kind is Kind.PROGRAM else 0
    sha, stamping = hashlib.sha256(), (seal or _NO_SEAL).begin()
    first, tail, size = bytearray(), bytearray(), 0
    for chunk in objects.chunks(ref):
        size += len(chunk)
        sha.update(chunk)
        first += chunk[: PREFIX.size + HEADER_BYTES_MAX - len(first)]
        tail += chunk
        inner = max(0, len(tail) - tail_bytes)
        stamping.update(tail[:inner])
        del tail[:inner]
    if sha.hexdigest() != checksum:
        raise Damaged("its bytes have another digest than its name says")
    if kind is Kind.PROGRAM and (seal is None or not hmac.compare_digest(stamping.digest(), tail)):
        raise Damaged("it is a program that was not sealed here")
    prefix = read_prefix(first[: PREFIX.size], size - tail_bytes)
    header = read_header(first[PREFIX.size : prefix.body_at])
    if header.kind is not kind:
        raise Damaged(f"its header says {header.kind}, its name {kind}")
    return header


def _check_same(header: Header, spec: KernelSpec, guard: str) -> None:
    if header.kind is not Kind.KERNEL:
        raise Damaged(f"it is a {header.kind}, not a kernel")
    if header.spec != spec:
        raise Damaged("it is the kernel of another specification")
    if header.certificate.guard_digest != guard:
        raise Damaged("it was made for other versions than the catalogue says")


_NO_SEAL = Seal(bytes(KEY_BYTES))
"""So that one loop reads kernels and programs; what it gives is not looked at."""
