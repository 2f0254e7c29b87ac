"""Native compilation is compared, measured, and kept only where it computes the same and pays."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.compiler._cache import CacheArtifactManager

from contracts.growth import Layout, SiteInfo
from contracts.kernels import Design, KernelSpec, Strategy, design_of
from esper.karn.catalogue import CATALOGUE
from esper.tezzeret import native
from esper.tezzeret.examination import Unsound, seasoned
from esper.tezzeret.forge import build, forge

SITE = SiteInfo("", Layout.VECTOR, (6,), 6, 0)
DESIGN: Design = design_of(SITE, "BP003", {"width": 4.0})
LOW_RANK: Design = design_of(SITE, "BP002", {"rank": 2.0})
pytestmark = pytest.mark.slow
needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A compiler cache that nobody else uses."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with torch._inductor.config.patch(compile_threads=1):
        yield


def trained(design: Design) -> nn.Module:
    return seasoned(build(KernelSpec(design, 1), CATALOGUE))


def artifacts_of(design: Design) -> bytes:
    found = native.compiled(trained(design), design)
    assert found is not None
    assert found.artifacts
    return found.artifacts


def keys(artifacts: bytes) -> set[str]:
    held = CacheArtifactManager.deserialize(artifacts)
    assert held is not None
    return {one.key for kind in held.values() for one in kind}


@needs_a_compiler
def test_artifacts_are_kept_only_from_the_stated_speed_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "PAYS_FROM", 0.0)
    assert torch.compiler.load_cache_artifacts(artifacts_of(DESIGN)) is not None
    monkeypatch.setattr(native, "PAYS_FROM", 1e9)
    unpaid = native.compiled(trained(DESIGN), DESIGN)
    assert unpaid is not None
    assert unpaid.speedup > 0.0
    assert unpaid.artifacts is None


@needs_a_compiler
def test_of_several_designs_compiled_in_one_process_each_has_its_own_artifacts_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "PAYS_FROM", 0.0)
    alone, other, again = (artifacts_of(design) for design in (LOW_RANK, DESIGN, LOW_RANK))
    assert len(again) <= len(alone)
    assert keys(again) == keys(alone)
    assert not keys(again) & keys(other)


def test_where_there_is_no_compiler_nothing_is_measured() -> None:
    with torch._inductor.config.patch({"cpp.cxx": ("there-is-no-such-compiler",)}):
        assert native.compiled(trained(DESIGN), DESIGN) is None


class Miscompiled(nn.Module):
    """What a compiler might make of `plain`: something that runs, and computes `wrong` of it."""

    def __init__(self, plain: nn.Module, wrong: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self._orig_mod = plain
        self._wrong = wrong

    def forward(self, h: Tensor) -> Tensor:
        return self._wrong(self._orig_mod, h)


def detached(plain: nn.Module, h: Tensor) -> Tensor:
    """The right output; the input's gradient is lost."""
    y: Tensor = plain(h.detach())
    return y


@pytest.mark.parametrize(
    "wrong",
    [
        lambda plain, h: plain(h) * 1.0001,
        lambda plain, h: plain(h) + torch.where(h > 2.0, torch.nan, 0.0),
        lambda plain, h: plain(h)[..., :3],
        detached,
    ],
)
def test_what_computes_something_else_is_worth_nothing_however_fast_it_is(
    wrong: Callable[[nn.Module, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "ratio", lambda *_: 1e6)
    monkeypatch.setattr(torch, "compile", lambda plain: Miscompiled(plain, wrong))
    with pytest.raises(Unsound):
        native.compiled(trained(DESIGN), DESIGN)
    forged = forge(KernelSpec(DESIGN, 1), Strategy.AGGRESSIVE, CATALOGUE)
    assert forged.program is None
    assert forged.certificate.native_speedup is None
    assert forged.certificate.miscompiled
    assert forged.certificate.output_error is not None, "the plain module's own checks hold"


def test_what_computes_the_same_in_another_order_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "ratio", lambda *_: 3.0)
    monkeypatch.setattr(torch, "compile", lambda plain: Miscompiled(plain, lambda f, h: f(h) * 3.0 / 3.0))
    found = native.compiled(trained(DESIGN), DESIGN)
    assert found == (3.0, None), "nothing was compiled, so that there is nothing to keep"
