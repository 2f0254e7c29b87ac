"""Native compilation is measured, and kept only where it pays."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from contracts.growth import Layout, SiteInfo
from contracts.kernels import Design, design_of
from esper.karn.catalogue import CATALOGUE
from esper.tezzeret import native
from esper.tezzeret.examination import seasoned

DESIGN: Design = design_of(SiteInfo("", Layout.VECTOR, (6,), 6, 0), "BP003", {"width": 4.0})
pytestmark = pytest.mark.slow


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[nn.Module]:
    """A trained one, and a compiler cache that nobody else uses."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    stream = torch.Generator().manual_seed(1)
    with torch._inductor.config.patch(compile_threads=1):
        yield seasoned(CATALOGUE.get("BP003").build(DESIGN.site, DESIGN.parameters, stream))


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_artifacts_are_kept_only_from_the_stated_speed_up_on(
    module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "PAYS_FROM", 0.0)
    paid = native.compiled(module, DESIGN)
    assert paid is not None
    assert paid.artifacts
    assert torch.compiler.load_cache_artifacts(paid.artifacts) is not None
    monkeypatch.setattr(native, "PAYS_FROM", 1e9)
    unpaid = native.compiled(module, DESIGN)
    assert unpaid is not None
    assert unpaid.speedup > 0.0
    assert unpaid.artifacts is None


def test_where_there_is_no_compiler_nothing_is_measured(
    module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch._inductor.config.patch({"cpp.cxx": ("there-is-no-such-compiler",)}):
        assert native.compiled(module, DESIGN) is None
