"""How a run stands after an epoch, as figures of a telemetry packet: written by it, read by observers.

A packet says all there is to say of the present, so that one is enough for who comes late. Figures travel
as metric points (64 bit); what was not measured has none.

    epoch, train_loss, val_loss, ...            the epoch's facts, one point each
    boundary_ms {part}, boundary_so_far {part}  the pause behind it; median, 99th percentile and number of all
    seed {seed_id, site, stage, blueprint}      parameters of each seed; seed_alpha and seed_gain {seed_id}
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from contracts.growth import Layout, SeedFigures, SeedRecord, SeedView, SiteInfo, SiteView
from contracts.lifecycle import Stage
from contracts.messages import MetricPoint
from contracts.report import BoundaryFacts, EpochFacts
from contracts.view import BoundaryView

_FIGURES = ("train_loss", "val_loss", "val_accuracy")
_PARTS = ("assemble", "decide", "apply", "total")
_COPY = "keep"
"""A part that no packet had at first: one without it took no time."""
_STAGES: Mapping[str, Stage] = {stage.name: stage for stage in Stage}


class Standing(msgspec.Struct, frozen=True):
    """A run after one epoch."""

    facts: EpochFacts
    host_params: int = 0
    max_params: int = 0
    boundary: BoundaryView | None = None
    """All boundaries so far."""
    conservative: bool = False
    seeds: tuple[SeedView, ...] = ()
    """In the order of their sites, fossils first; of their figures only the gain is told."""


def points(standing: Standing) -> tuple[MetricPoint, ...]:
    """The metrics of a packet."""
    return (*_of_facts(standing.facts), *_of_run(standing), *_of_seeds(standing.seeds))


def standing_of(metrics: Sequence[MetricPoint]) -> Standing | None:
    """What a packet's metrics say; None if they are others. Points that make no sense are left out."""
    plain = {point.name: point.value for point in metrics if not point.attributes}
    parts = {
        (point.name, point.attributes["part"]): point.value for point in metrics if "part" in point.attributes
    }
    epoch = _whole(plain.get("epoch"))
    if epoch < 1:
        return None
    return Standing(
        facts=_facts(epoch, plain, parts),
        host_params=_whole(plain.get("host_params")),
        max_params=_whole(plain.get("max_params")),
        boundary=_so_far(parts),
        conservative=bool(plain.get("conservative")),
        seeds=_seeds(metrics),
    )


def site_views(sites: Sequence[SiteInfo], seeds: Sequence[SeedView]) -> tuple[SiteView, ...]:
    """Each site with what is on it; one that only a seed knows of comes last."""
    known = {site.name for site in sites}
    strangers = dict.fromkeys(seed.record.site for seed in seeds if seed.record.site not in known)
    unseen = [SiteInfo(name, Layout.VECTOR, (), 0, len(sites) + n) for n, name in enumerate(strangers)]
    return tuple(_site_view(site, seeds) for site in (*sites, *unseen))


def _site_view(site: SiteInfo, seeds: Sequence[SeedView]) -> SiteView:
    here = [seed for seed in seeds if seed.record.site == site.name]
    fossils = tuple(seed for seed in here if seed.record.stage is Stage.FOSSILIZED)
    others = [seed for seed in here if seed.record.stage is not Stage.FOSSILIZED]
    return SiteView(site, fossils, others[-1] if others else None)


def _of_facts(facts: EpochFacts) -> Iterator[MetricPoint]:
    yield MetricPoint("epoch", facts.epoch)
    for name in _FIGURES:
        value: float | None = getattr(facts, name)
        if value is not None:
            yield MetricPoint(name, value)
    yield MetricPoint("learning_rate", facts.learning_rate)
    yield MetricPoint("params", facts.params)
    yield MetricPoint("train_flops", facts.train_flops)
    if facts.boundary_ms is not None:
        for part in (*_PARTS, _COPY):
            yield MetricPoint("boundary_ms", getattr(facts.boundary_ms, part), attributes={"part": part})


def _of_run(standing: Standing) -> Iterator[MetricPoint]:
    yield MetricPoint("host_params", standing.host_params)
    yield MetricPoint("max_params", standing.max_params)
    yield MetricPoint("conservative", float(standing.conservative))
    if standing.boundary is not None:
        for part in ("p50_ms", "p99_ms", "n"):
            yield MetricPoint("boundary_so_far", getattr(standing.boundary, part), attributes={"part": part})


def _of_seeds(seeds: Sequence[SeedView]) -> Iterator[MetricPoint]:
    for seed in seeds:
        record, named = seed.record, {"seed_id": seed.record.seed_id}
        told = {"site": record.site, "stage": record.stage.name, "blueprint": record.blueprint_id}
        yield MetricPoint("seed", record.params, attributes={**named, **told})
        if record.stage is Stage.BLENDING:
            yield MetricPoint("seed_alpha", record.alpha, attributes=named)
        if seed.gain is not None and math.isfinite(seed.gain):
            yield MetricPoint("seed_gain", seed.gain, attributes=named)


def _facts(epoch: int, plain: Mapping[str, float], parts: Mapping[tuple[str, str], float]) -> EpochFacts:
    times = [_finite(parts.get(("boundary_ms", part))) for part in _PARTS]
    whole = [time for time in times if time is not None]
    copying = _finite(parts.get(("boundary_ms", _COPY))) or 0.0
    boundary = replace(BoundaryFacts(*whole), keep=copying) if len(whole) == len(_PARTS) else None
    return EpochFacts(
        epoch=epoch,
        train_loss=_finite(plain.get("train_loss")),
        val_loss=_finite(plain.get("val_loss")),
        val_accuracy=_finite(plain.get("val_accuracy")),
        learning_rate=_finite(plain.get("learning_rate")) or 0.0,
        boundary_ms=boundary,
        params=_whole(plain.get("params")),
        train_flops=_whole(plain.get("train_flops")),
    )


def _so_far(parts: Mapping[tuple[str, str], float]) -> BoundaryView | None:
    p50, p99 = (_finite(parts.get(("boundary_so_far", part))) for part in ("p50_ms", "p99_ms"))
    if p50 is None or p99 is None:
        return None
    return BoundaryView(p50, p99, _whole(parts.get(("boundary_so_far", "n"))))


def _seeds(metrics: Sequence[MetricPoint]) -> tuple[SeedView, ...]:
    more = {
        (point.name, point.attributes.get("seed_id", "")): _finite(point.value)
        for point in metrics
        if point.name in ("seed_alpha", "seed_gain")
    }
    return tuple(_seed(point, more) for point in metrics if point.name == "seed")


def _seed(point: MetricPoint, more: Mapping[tuple[str, str], float | None]) -> SeedView:
    told = point.attributes
    seed_id, stage = told.get("seed_id", ""), _STAGES.get(told.get("stage", ""), Stage.UNKNOWN)
    record = SeedRecord(
        seed_id=seed_id,
        site=told.get("site", ""),
        stage=stage,
        blueprint_id=told.get("blueprint", ""),
        params=_whole(point.value),
        alpha=more.get(("seed_alpha", seed_id)) or 0.0,
    )
    return SeedView(record, SeedFigures(seed_id), more.get(("seed_gain", seed_id)))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _whole(value: float | None) -> int:
    """A count, 0 if there is none that makes sense."""
    found = _finite(value)
    return round(found) if found is not None and found >= 0 else 0
