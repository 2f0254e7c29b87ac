"""How a run stands crosses as metric points and comes back; points that make no sense do no harm."""

import math

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.growth import Layout, SeedFigures, SeedRecord, SeedView, SiteInfo
from contracts.lifecycle import Stage
from contracts.messages import MetricPoint
from contracts.report import BoundaryFacts, EpochFacts
from contracts.view import BoundaryView
from esper.observer.standing import Standing, points, site_views, standing_of

COUNTS = st.integers(0, 2**53)
FIGURES = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.floats(0, 1e6)
NAMES = st.text(min_size=1, max_size=6)


def seeds(seed_id: str) -> st.SearchStrategy[SeedView]:
    """A seed as far as a packet tells of it."""
    stages = st.sampled_from([stage for stage in Stage if stage is not Stage.BLENDING])
    record = st.builds(SeedRecord, st.just(seed_id), NAMES, stages, blueprint_id=NAMES, params=COUNTS)
    blends = st.builds(
        SeedRecord, st.just(seed_id), NAMES, st.just(Stage.BLENDING), params=COUNTS, alpha=st.floats(0, 1)
    )
    return st.builds(SeedView, record | blends, st.just(SeedFigures(seed_id)), st.none() | FIGURES)


STANDINGS = st.builds(
    Standing,
    st.builds(
        EpochFacts,
        epoch=st.integers(1, 10**6),
        train_loss=st.none() | FIGURES,
        val_loss=st.none() | FIGURES,
        val_accuracy=st.none() | FIGURES,
        learning_rate=FIGURES,
        boundary_ms=st.none() | st.builds(BoundaryFacts, TIMES, TIMES, TIMES, TIMES, TIMES),
        params=COUNTS,
        train_flops=COUNTS,
    ),
    host_params=COUNTS,
    max_params=COUNTS,
    boundary=st.none() | st.builds(BoundaryView, TIMES, TIMES, COUNTS),
    conservative=st.booleans(),
    seeds=st.integers(0, 3).flatmap(lambda n: st.tuples(*(seeds(f"s{i}") for i in range(n)))),
)
POINTS = st.builds(
    MetricPoint,
    st.sampled_from(
        ["epoch", "params", "train_loss", "boundary_ms", "boundary_so_far", "seed", "seed_gain", "x"]
    ),
    st.floats(),
    attributes=st.dictionaries(st.sampled_from(["part", "seed_id", "site", "stage"]), NAMES, max_size=4),
)


@given(STANDINGS)
def test_what_is_said_is_what_is_read(standing: Standing) -> None:
    assert standing_of(points(standing)) == standing


@given(STANDINGS)
def test_a_boundary_of_a_packet_that_knows_no_copy_had_none(standing: Standing) -> None:
    older = [point for point in points(standing) if point.attributes.get("part") != "keep"]
    told, read = standing.facts.boundary_ms, standing_of(older)
    assert read is not None
    assert read.facts.boundary_ms == (None if told is None else replace(told, keep=0.0))


@given(STANDINGS, st.randoms())
def test_the_order_of_the_points_says_nothing_but_the_order_of_the_seeds(
    standing: Standing, dice: object
) -> None:
    said = list(points(standing))
    others = [point for point in said if point.name != "seed"]
    dice.shuffle(others)  # type: ignore[attr-defined]
    assert standing_of([*others, *(point for point in said if point.name == "seed")]) == standing


@given(st.lists(POINTS, max_size=12))
def test_any_points_give_a_standing_of_finite_figures_or_none(metrics: list[MetricPoint]) -> None:
    standing = standing_of(metrics)
    if standing is not None:
        assert standing.facts.epoch >= 1
        assert standing.facts.train_loss is None or math.isfinite(standing.facts.train_loss)
        assert all(seed.gain is None or math.isfinite(seed.gain) for seed in standing.seeds)


def test_a_packet_of_other_metrics_is_no_standing() -> None:
    assert standing_of([MetricPoint("temperature", 21.0)]) is None
    assert standing_of([]) is None


def test_every_seed_stands_on_its_site_and_unknown_sites_come_last() -> None:
    known = SiteInfo("relu1", Layout.VECTOR, (4,), 4, 0)
    fossil = SeedView(SeedRecord("a", "relu1", Stage.FOSSILIZED), SeedFigures("a"))
    growing = SeedView(SeedRecord("b", "relu1", Stage.TRAINING), SeedFigures("b"))
    stranger = SeedView(SeedRecord("c", "elsewhere", Stage.CULLED), SeedFigures("c"))
    first, last = site_views([known], [growing, stranger, fossil])
    assert (first.site, first.fossils, first.seed) == (known, (fossil,), growing)
    assert (last.site.name, last.fossils, last.seed) == ("elsewhere", (), stranger)
    (empty,) = site_views([known], [])
    assert empty.free


@given(STANDINGS)
def test_seeds_are_neither_lost_nor_doubled_on_their_sites(standing: Standing) -> None:
    unlike = tuple(
        replace(seed, record=replace(seed.record, site=f"site{n}")) for n, seed in enumerate(standing.seeds)
    )
    views = site_views([], unlike)
    assert [seed for view in views for seed in (*view.fossils, view.seed) if seed is not None] == list(unlike)
