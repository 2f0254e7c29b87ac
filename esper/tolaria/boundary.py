"""The boundary's facts in one go: the state on the wire and the view that a policy decides on."""

import os
import sys
from dataclasses import dataclass
from functools import cache

from contracts.conflict import ConflictFacts
from contracts.growth import GrowthView, ProbeReport
from contracts.lifecycle import ACTIVE
from contracts.messages import HardwareContext, SeedState, SystemState, WallNs
from esper.kasmina.limits import Limits
from esper.tolaria.growth import Growth, Seed
from esper.tolaria.rates import Rates
from esper.tolaria.results import Assembled, EpochResult

BYTES_PER_GB = 1_000_000_000

FOREIGN_RATES = "foreign_rate_changes"
"""The metric that is there in an epoch in which someone else changed learning rates."""


@dataclass(frozen=True)
class Standing:
    """Where the run is, in numbers."""

    run_id: str
    step: int
    progress: float
    host_params: int
    params: int
    max_params: int | None
    step_flops: int
    budget_flops: int | None
    spent_flops: int
    flops: dict[str, int]
    epoch_steps: int
    batch_size: int
    max_active: int
    limits: Limits
    conservative: bool
    evidence: ProbeReport | None


def assemble(
    standing: Standing, result: EpochResult, growth: Growth, rates: Rates, now_ns: WallNs
) -> Assembled:
    """Put the facts of the epoch that `result` is of together. Nothing is measured here."""
    return Assembled(
        state=_state(standing, result, growth, rates, now_ns),
        growth=view(standing, growth, result.epoch, result.conflict),
        figures=growth.figures(),
        foreign=result.foreign,
        steps=result.steps,
    )


def _state(
    standing: Standing, result: EpochResult, growth: Growth, rates: Rates, now_ns: WallNs
) -> SystemState:
    return SystemState(
        current_epoch=result.epoch,
        validation_accuracy=result.val_accuracy if result.val_accuracy is not None else 0.0,
        validation_loss=result.val_loss,
        timestamp_ns=now_ns,
        packet_id=f"{standing.run_id}-{result.epoch}",
        global_step=standing.step,
        training_loss=result.train_loss,
        training_run_id=standing.run_id,
        seed_states=tuple(
            _seed_state(seed, growth, rates, result.epoch) for seed in growth.seeds.values() if seed.in_place
        ),
        training_metrics={
            "learning_rate": result.learning_rate,
            "grad_norm": result.grad_norm,
            "epoch_wall_s": result.wall_s,
            "spent_gflop": standing.spent_flops / 1e9,
            "progress": standing.progress,
            "params": float(standing.params),
            **_conflict_metrics(result.conflict),
            **({FOREIGN_RATES: float(result.foreign_rate_changes)} if result.foreign_rate_changes else {}),
        },
        hardware_context=_hardware(),
    )


def _conflict_metrics(facts: ConflictFacts | None) -> dict[str, float]:
    """Nothing in an epoch that compared nothing."""
    if facts is None or facts.cosine_min is None:
        return {}
    return {"gradient_cosine_min": facts.cosine_min, "gradient_conflict_share": facts.share}


def _seed_state(seed: Seed, growth: Growth, rates: Rates, epoch: int) -> SeedState:
    record, figures = seed.record, seed.figures
    metrics = {"alpha": record.alpha, "params": float(record.params)}
    if seed.gain is not None:
        metrics["gain"] = seed.gain
    if figures.rms_ratio is not None:
        metrics["rms_ratio"] = figures.rms_ratio
    return SeedState(
        seed_id=record.seed_id,
        stage=record.stage,
        gradient_norm=figures.grad_norm or 0.0,
        learning_rate=rates.of(record.seed_id),
        layer_depth=growth.sites[record.site].depth,
        metrics=metrics,
        age_epochs=epoch - record.born_epoch,
    )


def view(
    standing: Standing, growth: Growth, epoch: int = 0, conflict: ConflictFacts | None = None
) -> GrowthView:
    """How growth stands after an epoch, or at the run's beginning."""
    return GrowthView(
        epoch=epoch,
        progress=standing.progress,
        host_params=standing.host_params,
        params=standing.params,
        max_params=sys.maxsize if standing.max_params is None else standing.max_params,
        step_flops=standing.step_flops,
        budget_flops=standing.budget_flops,
        spent_flops=standing.spent_flops,
        batch_size=standing.batch_size,
        epoch_steps=standing.epoch_steps,
        max_active=standing.max_active,
        seed_params_max=standing.limits.room(_active(growth), standing.params),
        sites=growth.views(),
        evidence=standing.evidence,
        flops=standing.flops,
        conflict=conflict,
        conservative=standing.conservative,
    )


def _active(growth: Growth) -> list[int]:
    """Parameters of each seed whose fate is open."""
    return [seed.record.params for seed in growth.seeds.values() if seed.record.stage in ACTIVE]


@cache
def _hardware() -> HardwareContext:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return HardwareContext(device_type="cpu", total_memory_gb=total / BYTES_PER_GB)
