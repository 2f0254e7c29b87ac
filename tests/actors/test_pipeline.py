"""Claims about how a run's blueprint pipeline is made up from its configuration."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from actors.pipeline import Pipeline
from contracts.config import KernelConfig
from esper.karn.catalogue import CATALOGUE
from esper.karn.source import source_of
from esper.kasmina.stock import Stock
from esper.kernels import MIB
from esper.urza.errors import Unavailable
from tests.esper.urza.world import a_spec, published


@pytest.mark.parametrize(("processors", "asked", "had"), [(1, 2, 1), (2, 2, 1), (3, 2, 2), (8, 1, 1)])
def test_training_keeps_a_processor_from_the_compilers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, asked: int, had: int
) -> None:
    monkeypatch.setattr("actors.pipeline.processors", lambda: processors)
    config = KernelConfig(workers=asked)
    shop = Pipeline(tmp_path, config, CATALOGUE, frozenset(), Stock()).shop()
    assert shop.policy.at_most == had
    assert (shop.head_start.nice == 0) == (processors > 1)


def test_the_compilers_work_as_configured_with_the_runs_own_catalogue(tmp_path: Path) -> None:
    config = replace(KernelConfig(), compile_s=7.0, memory_mb=600, strategy="aggressive")
    sources = {"BP008": source_of(CATALOGUE.get("BP008"))}
    pipeline = Pipeline(tmp_path, config, CATALOGUE, frozenset({"BP036"}), Stock(), sources)
    shop = pipeline.shop()
    assert (shop.limits.job_s, shop.limits.memory_bytes, shop.limits.fork) == (7.0, 600 * MIB, True)
    assert (shop.approved, shop.sources) == (frozenset({"BP036"}), sources)
    with pipeline.open_library() as library:
        assert library.limit_bytes == 100 * MIB


def test_the_kernels_may_lie_behind_another_address_than_the_catalogue(tmp_path: Path) -> None:
    config = KernelConfig(objects=f"memory://{tmp_path.name}")
    pipeline = Pipeline(tmp_path, config, CATALOGUE, frozenset(), Stock())
    with pipeline.open_library() as library:
        kernel = published(library, a_spec(1))
        assert library.fetch(a_spec(1)).ref == kernel
    assert not list(tmp_path.rglob(kernel.ref))
    with pipeline.open_library() as again:
        assert again.find(a_spec(1)) == kernel


def test_an_address_that_nobody_knows_is_said(tmp_path: Path) -> None:
    config = KernelConfig(objects="nosuch://place")
    with pytest.raises(Unavailable, match="nosuch"):
        Pipeline(tmp_path, config, CATALOGUE, frozenset(), Stock()).open_library()
