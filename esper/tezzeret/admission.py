"""What is made at all: asked before anything is built, whoever wants it and however it got onto the list."""

from contracts.kernels import Design
from esper.karn import permit
from esper.karn.catalogue import Catalogue
from esper.urza.container import ARTIFACT_BYTES_MAX

VALUE_BYTES = 4
"""Of one parameter, float32."""


def refusal(catalogue: Catalogue, design: Design, approved: frozenset[str]) -> str:
    """Why no kernel of `design` is made where these experimental blueprints are approved; empty if one is."""
    return permit.refusal(catalogue, design, approved) or _too_large(catalogue, design)


def is_refused_everywhere(catalogue: Catalogue, design: Design) -> bool:
    """No approval would help."""
    return bool(refusal(catalogue, design, frozenset({design.blueprint_id})))


def _too_large(catalogue: Catalogue, design: Design) -> str:
    """By the blueprint's formula: nothing is built for it."""
    size = VALUE_BYTES * catalogue.get(design.blueprint_id).params(design.site, design.parameters)
    if size <= ARTIFACT_BYTES_MAX:
        return ""
    return (
        f"{design.blueprint_id} has {size:,} bytes of parameters at {design.layout} {list(design.shape)}; "
        f"a kernel may have {ARTIFACT_BYTES_MAX:,}"
    )
