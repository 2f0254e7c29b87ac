"""Hypothesis strategies for what crosses between the parts of Esper."""

import math

from hypothesis import strategies as st

from contracts.growth import Layout, Path, SeedFigures, SeedRecord, SiteInfo
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation, CommandType

_CHANNEL_POSITION = {Layout.VECTOR: 0, Layout.SEQUENCE: 0, Layout.IMAGE: 0, Layout.TOKENS: -1}
_DIMENSIONS = {Layout.VECTOR: 1, Layout.SEQUENCE: 2, Layout.IMAGE: 3, Layout.TOKENS: 2}
LAYOUTS = st.sampled_from(sorted(Layout))
EPOCHS = st.integers(0, 4)
PATHS = st.builds(
    Path,
    training_epochs=EPOCHS,
    blending_epochs=EPOCHS,
    shadowing_epochs=EPOCHS,
    probation_epochs=EPOCHS,
)
AMOUNTS = st.floats(0, 1e6)
ANY_FLOATS = st.one_of(AMOUNTS, st.just(math.nan), st.just(math.inf))


@st.composite
def sites(draw: st.DrawFn, layouts: st.SearchStrategy[Layout] = LAYOUTS, size_max: int = 7) -> SiteInfo:
    """A site with every dimension from 1 to `size_max`."""
    layout = draw(layouts)
    shape = tuple(draw(st.integers(1, size_max)) for _ in range(_DIMENSIONS[layout]))
    return SiteInfo("layers.0", layout, shape, shape[_CHANNEL_POSITION[layout]], depth=0)


def figures(seed_id: str) -> st.SearchStrategy[SeedFigures]:
    """Anything that could have been measured of a seed, or not."""
    return st.builds(
        SeedFigures,
        seed_id=st.just(seed_id),
        finite=st.none() | st.booleans(),
        shape_kept=st.none() | st.booleans(),
        grad_norm=st.none() | ANY_FLOATS,
        rms_ratio=st.none() | ANY_FLOATS,
        jump=st.none() | ANY_FLOATS,
        loss_with=st.none() | ANY_FLOATS,
        loss_without=st.none() | ANY_FLOATS,
        starved_tensors=st.none() | st.integers(0, 2),
        isolation_violations=st.integers(0, 4),
        cleared=st.none() | st.booleans(),
    )


def healthy(seed_id: str) -> SeedFigures:
    """Figures that pass every gate."""
    return SeedFigures(
        seed_id=seed_id,
        finite=True,
        shape_kept=True,
        grad_norm=0.5,
        rms_ratio=0.2,
        jump=0.0,
        loss_with=0.9,
        loss_without=1.0,
        accuracy_with=0.7,
        accuracy_without=0.6,
        starved_tensors=0,
        cleared=True,
    )


def records(stages: st.SearchStrategy[Stage] | None = None) -> st.SearchStrategy[SeedRecord]:
    """A seed in any stage of its life."""
    return st.builds(
        SeedRecord,
        seed_id=st.just("layers.0#0"),
        site=st.just("layers.0"),
        stage=stages or st.sampled_from([stage for stage in Stage if stage is not Stage.UNKNOWN]),
        blueprint_id=st.just("BP001"),
        params=st.integers(0, 10_000),
        path=PATHS,
        born_epoch=EPOCHS,
        stage_epoch=EPOCHS,
        rests_until=EPOCHS,
    )


@st.composite
def seed_commands(
    draw: st.DrawFn,
    command_ids: st.SearchStrategy[str],
    site_names: st.SearchStrategy[str],
    seed_ids: st.SearchStrategy[str],
    blueprint_ids: st.SearchStrategy[str],
    parameters: st.SearchStrategy[dict[str, float]],
    now_ns: int = 0,
) -> AdaptationCommand:
    """A command for a seed, sensible or not, issued at most a little too long before `now_ns`."""
    operation = draw(st.sampled_from(SeedOperation))
    grows = operation is SeedOperation.GERMINATE
    annotations = {"site": draw(site_names)} if grows else {}
    for name in ("approved", "rollback"):
        if draw(st.booleans()):
            annotations[name] = "true"
    payload = CommandSeedOperation(
        operation,
        blueprint_id=draw(blueprint_ids) if grows else "",
        parameters=draw(parameters) if grows else {},
    )
    return AdaptationCommand(
        command_id=draw(command_ids),
        command_type=CommandType.SEED,
        issued_at=now_ns - draw(st.sampled_from((0, 0, 0, 18_000_000, 18_000_001))),
        issued_by="tamiyo/tests",
        target_seed_id="" if grows else draw(seed_ids),
        payload=payload,
        annotations=annotations,
    )
