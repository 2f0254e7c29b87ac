"""What a smith is given and what it tells."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from actors.oona.policy import BreakerPolicy
from actors.tezzeret.confinement import HeadStart
from actors.tezzeret.sandbox import Limits
from contracts.kernels import (
    Certificate,
    Design,
    KernelArtifactError,
    KernelArtifactReady,
    KernelCatalogUpdate,
    KernelSpec,
)
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.source import Source
from esper.tezzeret.agenda import Policy, Progress
from esper.urza.names import ArtifactRef

POLICY = Policy()
LIMITS = Limits()
BREAKER = BreakerPolicy(failures_max=3, open_s=120.0)
HEAD_START = HeadStart(nice=10)
IDLE_S = 20.0
"""Seconds without work after which the processes are let go: each holds a torch of its own."""


class Store(Protocol):
    """What a smith needs of `esper.urza.library.Library`; used by one thread, the one that opened it."""

    def want(self, spec: KernelSpec) -> bool: ...
    def wanted(self) -> tuple[KernelSpec, ...]: ...
    def withdraw(self, specs: Iterable[KernelSpec]) -> None: ...
    def failed(self, spec: KernelSpec, reason: str, final: bool) -> None: ...
    def given_up(self) -> dict[str, str]: ...
    def certificate(self, design: Design) -> Certificate | None: ...
    def find(self, spec: KernelSpec) -> ArtifactRef | None: ...
    def publish(
        self, spec: KernelSpec, certificate: Certificate, weights: bytes, program: bytes | None = None
    ) -> ArtifactRef: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Shop:
    """How a smith works."""

    folder: Path
    """For the processes' own files, beside those of other smiths."""
    policy: Policy = POLICY
    limits: Limits = LIMITS
    breaker: BreakerPolicy = BREAKER
    head_start: HeadStart = HEAD_START
    """Of the processes that are started before the first kernel was made."""
    worker: str = "actors.tezzeret.worker"
    """Module that the processes run."""
    catalogue: Catalogue = CATALOGUE
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Where the processes find those of its blueprints that are not Karn's own, by id."""
    approved: frozenset[str] = frozenset()
    """Experimental blueprints that may be made."""
    idle_s: float = IDLE_S


class Standing(msgspec.Struct, frozen=True):
    """A smith as it is now."""

    progress: Progress = Progress()
    conservative: bool = False
    trouble: str = ""
    """Why the store, which was opened, took nothing since, or why no process could be had for the work.

    That the store can't be opened is not in it: whoever asks the store hears that.
    """
    broken: str = ""
    """The error that ended the smith; another has to be made."""


Announcement: TypeAlias = KernelArtifactReady | KernelArtifactError | KernelCatalogUpdate
Announce: TypeAlias = Callable[[Announcement | Standing], None]


def ready(spec: KernelSpec, ref: ArtifactRef, certificate: Certificate) -> KernelArtifactReady:
    return KernelArtifactReady(
        request_id=spec.key,
        blueprint_id=spec.design.blueprint_id,
        artifact_ref=ref.ref,
        checksum=ref.checksum,
        guard_digest=certificate.guard_digest,
        prewarm_p50_ms=certificate.prewarm_p50_ms,
        prewarm_p95_ms=certificate.prewarm_p95_ms,
    )


def update(spec: KernelSpec, ref: ArtifactRef, certificate: Certificate) -> KernelCatalogUpdate:
    return KernelCatalogUpdate(
        blueprint_id=spec.design.blueprint_id,
        artifact_ref=ref.ref,
        checksum=ref.checksum,
        guard_digest=certificate.guard_digest,
        compile_ms=certificate.compile_ms,
        prewarm_ms=certificate.prewarm_p50_ms,
    )


def error(spec: KernelSpec, reason: str) -> KernelArtifactError:
    return KernelArtifactError(request_id=spec.key, blueprint_id=spec.design.blueprint_id, reason=reason)
