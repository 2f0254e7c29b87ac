"""Small kernels, a store to put them in, and ways to spoil what is stored."""

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec

from contracts.growth import Layout
from contracts.kernels import Certificate, Design, KernelSpec, Strategy
from esper.karn.catalogue import CATALOGUE
from esper.karn.guard import guard_digest, guarded_versions
from esper.urza.ledger import FILE
from esper.urza.library import Library
from esper.urza.names import ArtifactRef
from esper.urza.opening import build
from esper.urza.weights import weights_of

SHARED_MEMORY = Path("/dev/shm")
DESIGNS = (
    Design("BP008", Layout.VECTOR, (4,), 4, {"width": 3.0}),
    Design("BP004", Layout.SEQUENCE, (2, 7), 2, {"width": 2.0}),
    Design("BP002", Layout.TOKENS, (5, 3), 3, {"rank": 1.0}),
)


def a_spec(draw: int = 0, design: int = 0) -> KernelSpec:
    return KernelSpec(DESIGNS[design], draw)


def a_certificate(spec: KernelSpec, strategy: Strategy = Strategy.STANDARD) -> Certificate:
    return Certificate(strategy, guard_digest(spec.design), guarded_versions(), params=1, forward_flops=2)


def its_weights(spec: KernelSpec) -> bytes:
    return _weights(tell(spec))


@lru_cache(64)
def _weights(told: bytes) -> bytes:
    return weights_of(build(msgspec.json.decode(told, type=KernelSpec), CATALOGUE))


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder where making things durable costs nothing, if this machine has such a place."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def published(library: Library, spec: KernelSpec, program: bytes | None = None) -> ArtifactRef:
    return library.publish(spec, a_certificate(spec), its_weights(spec), program)


def file_of(folder: Path, ref: ArtifactRef | str) -> Path:
    name = ref if isinstance(ref, str) else ref.ref
    return folder / "objects" / name[:2] / name


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entered(folder: Path, old: ArtifactRef, content: bytes) -> str:
    """Replace a published file as who can write the catalogue would: with matching digest and size."""
    name = f"{sha256(content)}.{old.ref.partition('.')[2]}"
    file_of(folder, name).parent.mkdir(exist_ok=True)
    file_of(folder, name).write_bytes(content)
    forge_row(folder, old.ref, name, len(content))
    return name


def forge_row(folder: Path, old: str, new: str, size: int) -> None:
    with sqlite3.connect(folder / FILE) as connection:
        connection.execute("UPDATE artifacts SET ref = ?, size = ? WHERE ref = ?", (new, size, old))
    connection.close()


def tell(value: object) -> bytes:
    return msgspec.json.encode(value)
