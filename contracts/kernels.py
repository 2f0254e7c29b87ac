"""What is said about kernels: blueprints that are compiled for a site's shapes before they are needed.

A *design* is what is compiled: a blueprint with its settings, for one shape. A *kernel* is a design with the
initial values of one random stream; its *certificate* says what was checked, and rests on the design alone.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from contracts.growth import Layout, SiteInfo
from contracts.messages import WallNs

REASON_CHARS_MAX: Final = 500
"""Of why something could not be made or kept."""


class Strategy(StrEnum):
    """How much is done before a kernel may be used."""

    FAST = "fast"  # exported, not compared
    STANDARD = "standard"  # exported; outputs and gradients of the round trip compared
    AGGRESSIVE = "aggressive"  # as standard, and compiled natively where that computes the same and pays
    EMERGENCY = "emergency"  # the plain module, unchecked and marked


class Design(msgspec.Struct, frozen=True):
    """What is compiled: one blueprint with its settings, for sites of one layout and shape."""

    blueprint_id: str
    layout: Layout
    shape: tuple[int, ...]
    """Of the site's output for one example, without the batch."""
    channels: int
    parameters: dict[str, float] = {}
    """The blueprint's own settings."""

    def __post_init__(self) -> None:
        """Whole numbers become floats, so that a design has the same key however it was written."""
        floats = {name: float(value) for name, value in self.parameters.items()}
        msgspec.structs.force_setattr(self, "parameters", floats)

    @property
    def key(self) -> str:
        """SHA-256 of the design, 64 hexadecimal digits: equal for equal designs, on every machine."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    @property
    def site(self) -> SiteInfo:
        """A site of this shape, by no name."""
        return SiteInfo(name="", layout=self.layout, shape=self.shape, channels=self.channels, depth=0)


def design_of(site: SiteInfo, blueprint_id: str, parameters: Mapping[str, float]) -> Design:
    """The design of a blueprint at a site."""
    return Design(
        blueprint_id=blueprint_id,
        layout=site.layout,
        shape=site.shape,
        channels=site.channels,
        parameters=dict(parameters),
    )


class KernelSpec(msgspec.Struct, frozen=True):
    """One kernel: a design, and the random stream that its initial values are drawn from."""

    design: Design
    draw: int
    """Seed of the stream, 0 to 2**63 - 1."""

    @property
    def key(self) -> str:
        """SHA-256 of the specification, 64 hexadecimal digits; also the id of requests for it."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


class Certificate(msgspec.Struct, frozen=True):
    """What was found out about a design, and with which versions; None is "not measured"."""

    strategy: Strategy
    guard_digest: str
    """SHA-256 of what the certificate assumes: the design, the blueprint's code, the versions."""
    versions: dict[str, str]
    params: int
    forward_flops: int
    """Of one example."""
    batches: tuple[int, ...] = ()
    """Batch sizes at which the exported program was compared."""
    output_error: float | None = None
    """Largest relative difference of the outputs after the round trip."""
    gradient_error: float | None = None
    """The same of the gradients."""
    compile_ms: float = 0.0
    prewarm_p50_ms: float = 0.0
    """One forward and backward pass of the module."""
    prewarm_p95_ms: float = 0.0
    native_speedup: float | None = None
    """Time of the plain module over that of one compiled natively that computes the same; None without."""
    native_refusal: Annotated[str, msgspec.Meta(max_length=REASON_CHARS_MAX)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    """Why what was compiled natively is not kept, if it computes something else. If it does not, the field is
    not spelt at all: an artifact that was made before there was such a field is spelt as ever."""

    @property
    def miscompiled(self) -> str:
        """Why what was compiled natively is not kept; empty if it does not compute something else."""
        return "" if self.native_refusal is msgspec.UNSET else self.native_refusal


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
