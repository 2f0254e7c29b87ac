"""Makes one kernel: builds the module, draws its values, and finds out about its design what `strategy` asks.

    fast        export
    standard    starts at 0? deterministic? costs as stated? ─▶ export ─▶ reopen ─▶ same results? timed
    aggressive  as standard ─▶ compiled natively ─▶ same results, faster? then its artifacts are kept;
                other results are refused, which the certificate says
    emergency   nothing: the plain module, marked

The exported program is the proof, not the product: whoever grafts builds the module and loads its values, and
a stored program would be code that nobody opens.

It runs in a sandbox, as the blueprint may hang or crash; only `draw` is also for the process that trains.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import torch
from torch import nn

from contracts.kernels import REASON_CHARS_MAX, Certificate, Design, KernelSpec, Strategy
from esper.karn.catalogue import Catalogue
from esper.karn.guard import guard_digest, guarded_versions
from esper.tezzeret import examination, exporting, native, timing
from esper.urza.weights import weights_of

RANK = {Strategy.EMERGENCY: 0, Strategy.FAST: 1, Strategy.STANDARD: 2, Strategy.AGGRESSIVE: 3}
"""How much a strategy finds out."""


@dataclass(frozen=True, slots=True)
class Forged:
    """One finished kernel."""

    weights: bytes
    """safetensors, as `esper.urza.weights` spells them."""
    certificate: Certificate
    program: bytes | None = None
    """The native compiler's artifacts, where they pay; code for whoever opens them."""


def forge(
    spec: KernelSpec,
    strategy: Strategy,
    catalogue: Catalogue,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Forged:
    """The kernel of `spec`. Torch's thread count is the caller's business, and part of every time.

    Raises:
        UnknownBlueprint, BlueprintError: it can't be built.
        Unsound: it failed a check.
    """
    began = clock()
    design = spec.design
    module = build(spec, catalogue)
    weights = weights_of(module)
    certificate = unexamined(design, strategy, catalogue)
    if strategy is Strategy.EMERGENCY:
        return Forged(weights, certificate)
    if strategy is not Strategy.FAST:
        _examine(module, design, catalogue)
    exported = exporting.export(module, design.shape)
    if strategy is not Strategy.FAST:
        certificate = _compared(module, exported, design, certificate)
    artifacts = None
    if strategy is Strategy.AGGRESSIVE:
        certificate, artifacts = _natively(module, design, certificate)
    compile_ms = (clock() - began) * 1e3
    return Forged(weights, msgspec.structs.replace(certificate, compile_ms=compile_ms), artifacts)


def draw(spec: KernelSpec, certificate: Certificate, catalogue: Catalogue) -> Forged:
    """The kernel of another draw of a design that is known: only its values are new.

    Raises:
        UnknownBlueprint, BlueprintError: it can't be built.
    """
    return Forged(weights_of(build(spec, catalogue)), certificate)


def build(spec: KernelSpec, catalogue: Catalogue) -> nn.Module:
    """The module of a specification, wherever and whenever it is built."""
    stream = torch.Generator().manual_seed(spec.draw)
    design = spec.design
    return catalogue.get(design.blueprint_id).build(design.site, design.parameters, stream)


def unexamined(design: Design, strategy: Strategy, catalogue: Catalogue) -> Certificate:
    """A certificate with the costs that the blueprint states, and nothing found out."""
    blueprint = catalogue.get(design.blueprint_id)
    return Certificate(
        strategy=strategy,
        guard_digest=guard_digest(design, catalogue),
        versions=guarded_versions(),
        params=blueprint.params(design.site, design.parameters),
        forward_flops=blueprint.forward_flops(design.site, design.parameters),
    )


def _examine(module: nn.Module, design: Design, catalogue: Catalogue) -> None:
    examination.check_start(module, design)
    examination.check_behaviour(examination.seasoned(module), design)
    examination.check_costs(module, design, catalogue.get(design.blueprint_id))


def _compared(module: nn.Module, exported: bytes, design: Design, certificate: Certificate) -> Certificate:
    trained = examination.seasoned(module)
    output_error, gradient_error = examination.compare(trained, exporting.reopen(exported), design)
    pace = timing.latency(trained, examination.inputs(timing.BATCH, design.shape))
    return msgspec.structs.replace(
        certificate,
        batches=examination.BATCHES,
        output_error=output_error,
        gradient_error=gradient_error,
        prewarm_p50_ms=pace.p50_ms,
        prewarm_p95_ms=pace.p95_ms,
    )


def _natively(
    module: nn.Module, design: Design, certificate: Certificate
) -> tuple[Certificate, bytes | None]:
    """What comes of compiling it natively: the certificate with that in it, and artifacts to keep."""
    try:
        found = native.compiled(examination.seasoned(module), design)
    except examination.Unsound as refused:
        reason = str(refused)[:REASON_CHARS_MAX]
        return msgspec.structs.replace(certificate, native_refusal=reason), None
    if found is None:
        return certificate, None
    return msgspec.structs.replace(certificate, native_speedup=found.speedup), found.artifacts
