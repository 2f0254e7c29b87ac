"""Small growth views for tests of policies."""

from contracts.growth import GrowthView, Layout, Path, SeedFigures, SeedRecord, SeedView, SiteInfo, SiteView
from contracts.lifecycle import Stage
from contracts.messages import SystemState

SITES = (
    SiteInfo("body.0", Layout.SEQUENCE, (4, 19), 4, 0),
    SiteInfo("body.1", Layout.SEQUENCE, (4, 10), 4, 1),
)


def seed(
    stage: Stage,
    site: str = "body.0",
    stage_epoch: int = 0,
    path: Path | None = None,
    gain: float | None = None,
) -> SeedView:
    record = SeedRecord(
        f"{site}#1",
        site,
        stage,
        "BP003",
        params=100,
        path=path or Path(),
        born_epoch=0,
        stage_epoch=stage_epoch,
    )
    loss_with = None if gain is None else 1.0 - gain
    figures = SeedFigures(record.seed_id, loss_with=loss_with, loss_without=None if gain is None else 1.0)
    return SeedView(record, figures, gain, stage_epoch + 1 if gain is not None else -1)


def view(
    epoch: int = 10,
    seeds: tuple[SeedView, ...] = (),
    progress: float = 0.1,
    params: int = 338,
    max_active: int = 1,
    **changes: object,
) -> GrowthView:
    sites = tuple(
        SiteView(site, seed=next((s for s in seeds if s.record.site == site.name), None)) for site in SITES
    )
    facts: dict[str, object] = {
        "epoch": epoch,
        "progress": progress,
        "host_params": 338,
        "params": params,
        "max_params": 1300,
        "step_flops": 704_000,
        "budget_flops": 30_000_000_000,
        "spent_flops": int(progress * 30e9),
        "epoch_steps": 40,
        "batch_size": 100,
        "max_active": max_active,
        "sites": sites,
        **changes,
    }
    return GrowthView(**facts)  # type: ignore[arg-type]


def state(
    epoch: int = 10, loss: float = 1.0, accuracy: float = 0.5, training_loss: float = 1.0
) -> SystemState:
    return SystemState(epoch, accuracy, loss, 0, f"p{epoch}", epoch * 40, training_loss, "run")
