"""The blueprint pipeline: a catalogue query, a kernel from the shelf and from disk, the graft, compiling.

`fetch_cached` takes a ready module off the shelf; `fetch_disk` verifies a file and builds the module from it;
`build` is the plain module without either: what a run pays that has no store. `graft` is the safe point: a
ready module of each kind goes into the demo's host and its optimizer; `dearest` is the kind that takes
longest. `compile` is one whole compilation by strategy, and `draw` one of a design that is known. What the
files hold is compared with what is built, bit for bit.
"""

import tempfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from bench.measure import Budget, Quantiles, Size, percentiles
from contracts.growth import SeedRecord, SiteInfo
from contracts.kernels import KernelSpec, Strategy, design_of
from contracts.lifecycle import Stage
from esper.assembly import Parts, assemble_parts
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.query import Query
from esper.kasmina.draw import draw_of
from esper.kasmina.plan import GraftPlan, Insert, Remove
from esper.settings import load
from esper.tamiyo.foresight import on_offer
from esper.tezzeret.forge import Forged, build, draw, forge
from esper.urza.library import Library
from esper.urza.shelf import Shelf
from esper.workloads.registry import find_workload

BUDGETS = (
    Budget("query.p99_ms", 0.1),
    Budget("fetch_cached.p50_ms", 0.1),
    Budget("fetch_disk.p50_ms", 10.0),
    Budget("graft.dearest.p50_ms", 0.5),
)
ROUNDS = {Size.SMALL: 3, Size.FULL: 200}
KERNELS = {Size.SMALL: 3, Size.FULL: 64}
"""At most so many of the kernels that the demo's sites can use."""
COMPILED = {Size.SMALL: 1, Size.FULL: 8}
"""Designs that are compiled by each strategy."""
STRATEGIES = {
    Size.SMALL: (Strategy.EMERGENCY, Strategy.FAST, Strategy.STANDARD),
    Size.FULL: tuple(Strategy),
}
WARM = 3
"""Grafts before the first that is measured."""


def run(size: Size) -> dict[str, object]:
    """Latency of each step for the kernels that the demo's sites can use."""
    torch.set_num_threads(1)
    parts = demo()
    specs = likely_specs(parts)[: KERNELS[size]]
    compiled = [forge(spec, Strategy.STANDARD, CATALOGUE) for spec in specs]
    result: dict[str, object] = {"query": _query(parts, size), "query_cold": _query_cold(parts, size)}
    with tempfile.TemporaryDirectory() as folder, Library(Path(folder)) as library:
        for spec, made in zip(specs, compiled, strict=True):
            library.publish(spec, made.certificate, made.weights)
        result |= _fetches(library, specs, size)
    result["graft"] = _by_kind(parts, specs, size)
    result["compile"] = _compiling(specs[: COMPILED[size]], size)
    result["draw"] = _timed([_drawing(*one) for one in zip(specs, compiled, strict=True)])
    digest = zlib.crc32(b"".join(made.weights for made in compiled))
    return {**result, "kernels": len(specs), "digest": f"{digest:08x}"}


def demo() -> Parts:
    """The demo's host and sites, trained for one epoch, so that the optimizer has state to keep."""
    workload = find_workload("mnist1d")
    config = workload.complete(load(None, (), {"run.epochs": 1}))
    parts = assemble_parts(config, workload.task(config.run.seed), "bench")
    parts.trainer.run_epoch()
    return parts


def likely_specs(parts: Parts) -> list[KernelSpec]:
    """What is likely to be germinated first."""
    view = parts.trainer.assemble().growth
    offered = on_offer(CATALOGUE, parts.config.growth, view, (view.max_params - view.params) // 3)
    found = [parts.engine.kernel_for(candidate) for candidate in offered]
    return [spec for spec in found if spec is not None]


def _query(parts: Parts, size: Size) -> dict[str, object]:
    """Every site asks for what fits it, in all three stages of trust that need no drill.

    The first of them are the first ever asked about their sites, as in a run, whose assembly has counted the
    costs there.
    """
    queries = [
        Query(site=site, max_params=allotment, max_stage=stage)
        for site in parts.sites
        for allotment in (100, 300, 1_000)
        for stage in (1, 2, 3)
    ]
    timed = _timed([partial(CATALOGUE.query, query) for query in queries * ROUNDS[size]])
    assert all(CATALOGUE.query(query) for query in queries), "each finds something"
    return timed


def _query_cold(parts: Parts, size: Size) -> dict[str, object]:
    """The first query about a shape that no run's assembly has seen."""
    fresh = [Catalogue(CATALOGUE) for _ in range(ROUNDS[size])]
    return _timed([partial(one.query, Query(site=site)) for one in fresh for site in _shapes(parts)])


def _shapes(parts: Parts) -> list[SiteInfo]:
    """A site of each shape."""
    return list({(site.layout, site.shape): site for site in parts.sites}.values())


def _fetches(library: Library, specs: Sequence[KernelSpec], size: Size) -> dict[str, object]:
    shelf = Shelf(len(specs), 64 << 20)
    disk_s: list[float] = []
    cached_s: list[float] = []
    build_s: list[float] = []
    for _ in range(max(1, ROUNDS[size] // 10)):
        for spec in specs:
            started = perf_counter()
            shelf.put(spec, library.fetch(spec))
            disk_s.append(perf_counter() - started)
        for spec in specs:
            started = perf_counter()
            kernel = shelf.take(spec)
            cached_s.append(perf_counter() - started)
            started = perf_counter()
            plain = build(spec, CATALOGUE)
            build_s.append(perf_counter() - started)
            assert kernel is not None
            stored, built = kernel.module.state_dict(), plain.state_dict()
            assert all(torch.equal(stored[name], built[name]) for name in built), spec.key
    return {
        "fetch_disk": percentiles(disk_s).figures("ms"),
        "fetch_cached": percentiles(cached_s).figures("ms"),
        "build": percentiles(build_s).figures("ms"),
    }


def _by_kind(parts: Parts, specs: Sequence[KernelSpec], size: Size) -> dict[str, object]:
    """A graft of each blueprint, and of that which takes longest."""
    kinds = {spec.design.blueprint_id: spec for spec in reversed(specs)}
    grafts = {kind: _grafts(parts, spec, size) for kind, spec in sorted(kinds.items())}
    dearest = max(grafts.values(), key=lambda taken: taken.p50)
    return {"dearest": dearest.figures("ms"), **{kind: each.figures("ms") for kind, each in grafts.items()}}


def _grafts(parts: Parts, spec: KernelSpec, size: Size) -> Quantiles:
    """A ready module into the host and out again; only the way in is measured."""
    site = next(
        one
        for one in parts.sites
        if design_of(one, spec.design.blueprint_id, spec.design.parameters) == spec.design
    )
    params = parts.trainer.params
    took_s = []
    for number in range(WARM + ROUNDS[size]):
        record = SeedRecord(f"{site.name}#{number}", site.name, Stage.GERMINATED, spec.design.blueprint_id)
        module = build(spec, CATALOGUE)
        plan = GraftPlan(f"in {number}", (Insert(record, module),))
        took_s.append(_seconds(partial(parts.trainer.apply, plan)))
        assert parts.trainer.params > params
        parts.trainer.apply(GraftPlan(f"out {number}", (Remove(record, rollback=False),)))
        assert parts.trainer.params == params
    return percentiles(took_s[WARM:])


def _compiling(specs: Sequence[KernelSpec], size: Size) -> dict[str, object]:
    """Milliseconds of each strategy, and how often native compilation paid."""
    result: dict[str, object] = {}
    for strategy in STRATEGIES[size]:
        made: list[Forged] = []
        took_s = []
        for spec in specs:
            started = perf_counter()
            made.append(forge(spec, strategy, CATALOGUE))
            took_s.append(perf_counter() - started)
        figures = percentiles(took_s).figures("ms")
        if strategy is Strategy.AGGRESSIVE:
            speedups = [one.certificate.native_speedup for one in made]
            figures["native_speedup_ratios"] = [round(one, 2) for one in speedups if one is not None]
        result[strategy.value] = figures
    return result


def _drawing(spec: KernelSpec, made: Forged) -> Callable[[], object]:
    other = KernelSpec(spec.design, draw_of(1, spec.key))
    return lambda: draw(other, made.certificate, CATALOGUE)


def _timed(calls: Sequence[Callable[[], object]]) -> dict[str, object]:
    return percentiles([_seconds(call) for call in calls]).figures("ms")


def _seconds(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started
