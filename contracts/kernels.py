"""What is said about kernels: blueprints that are compiled before they are needed."""

import msgspec

from contracts.messages import WallNs


class KernelPrefetchRequest(msgspec.Struct, frozen=True):
    """Asks for a blueprint's kernel ahead of its use."""

    request_id: str
    blueprint_id: str
    training_run_id: str
    issued_at: WallNs


class KernelArtifactReady(msgspec.Struct, frozen=True):
    """A kernel is there; the digests are those of its file and of what it assumes."""

    request_id: str
    blueprint_id: str
    artifact_ref: str
    checksum: str
    guard_digest: str
    prewarm_p50_ms: float = 0.0
    prewarm_p95_ms: float = 0.0


class KernelArtifactError(msgspec.Struct, frozen=True):
    """A kernel could not be made."""

    request_id: str
    blueprint_id: str
    reason: str


class KernelCatalogUpdate(msgspec.Struct, frozen=True):
    """A kernel came into the catalogue, whoever asked for it."""

    blueprint_id: str
    artifact_ref: str
    checksum: str
    guard_digest: str
    compile_ms: float = 0.0
    prewarm_ms: float = 0.0
