"""What is drilled: the eight dangerous blueprints, each where its harm can be met, and ten harmless ones.

trial      misbehaves at once: what never ends, or never stops growing, can be met from outside alone
isolated   misbehaves once it has passed its trial, while it learns on the shadow path
live       misbehaves once the host runs with it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace

from contracts.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    GateConfig,
    GrowthConfig,
    RunConfig,
    TrainConfig,
)
from contracts.growth import Path
from esper.drill.report import PASSES_A_STEP, TrialTerms


class Onset(StrEnum):
    """Where a dangerous blueprint begins to misbehave; NEVER is a harmless one's."""

    TRIAL = "trial"
    ISOLATED = "isolated"
    LIVE = "live"
    NEVER = "never"


@dataclass(frozen=True)
class Drill:
    """One run with one blueprint let loose in it."""

    blueprint_id: str
    onset: Onset

    @property
    def harmful(self) -> bool:
        return self.onset is not Onset.NEVER


ASKED_AT = 4
"""Epoch at whose end the policy asks for the trial; it germinates one epoch later."""
EPOCHS = 36
SHADOW_EVERY = 1
PATH = Path(training_epochs=3, blending_epochs=3, shadowing_epochs=1, probation_epochs=3)
PARAMS_MAX = 200
"""Parameters of the blueprint on drill, at most."""
GAUGED = 2
"""Forward passes in training mode that a new seed makes while it is gauged."""
TERMS = TrialTerms()
INTERFACE_RATIO_MAX = 1.14
"""G3's bound in drills: while a seed is in SHADOWING the host learns without it.

Over three seeds 30 harmless ones came to 0.85 to 1.06 times the loss without them (two were beyond the
default of 1.02), and noise that harms to 1.23 to 1.83 times.
"""
WAITS_MS = 5_000
"""A drill is about harm, not about haste: a boundary may wait so long for an answer on a busy machine."""

UNSTOPPABLE = ("BP046", "BP047", "BP048")
"""Nothing inside the process ends these, or sees them in time: they have to be met in quarantine."""
NUMERIC = ("BP043", "BP044", "BP045", "BP049", "BP050")
HAZARDS = tuple(sorted(UNSTOPPABLE + NUMERIC))
BENIGN = (*(f"BP{number:03}" for number in range(1, 9)), "DRILL-LOUD", "DRILL-NOISY")


def programme(only: Sequence[str] = ()) -> tuple[Drill, ...]:
    """Every drill in order, or those of the blueprints in `only`.

    Raises:
        ValueError: one of them is not drilled; the message says which are.
    """
    drills: list[Drill] = []
    for blueprint_id in HAZARDS:
        if blueprint_id in UNSTOPPABLE:
            drills.append(Drill(blueprint_id, Onset.TRIAL))
        else:
            drills += [Drill(blueprint_id, Onset.ISOLATED), Drill(blueprint_id, Onset.LIVE)]
    drills += [Drill(blueprint_id, Onset.NEVER) for blueprint_id in BENIGN]
    strangers = sorted(set(only) - {drill.blueprint_id for drill in drills})
    if strangers:
        raise ValueError(f"{', '.join(strangers)}: not drilled; there are {', '.join((*HAZARDS, *BENIGN))}")
    return tuple(drill for drill in drills if not only or drill.blueprint_id in only)


def onset_passes(onset: Onset, config: Config) -> int:
    """Forward passes in training mode after which the blueprint misbehaves.

    Beyond the trial, and in the middle of an epoch in which it learns alone, or of the first one in which
    the host runs with it.
    """
    steps = config.train.epoch_steps
    an_epoch = -(-steps // config.growth.shadow_every)
    isolated = GAUGED + an_epoch * config.growth.path.training_epochs
    match onset:
        case Onset.TRIAL:
            return 0
        case Onset.ISOLATED:
            whole = TERMS.steps * PASSES_A_STEP // an_epoch + 1
            passes = GAUGED + an_epoch * whole + an_epoch // 4
            assert TERMS.steps * PASSES_A_STEP < passes < isolated
            return passes
        case Onset.LIVE:
            passes = isolated + steps // 4
            assert TERMS.steps * PASSES_A_STEP < passes
            return passes
        case Onset.NEVER:
            raise ValueError("a harmless blueprint has no onset")


def drill_config(workload: str, seed: int, epochs: int = EPOCHS) -> Config:
    """How a drill's run, and its control, are trained; the workload fills in what is open."""
    return Config(
        run=RunConfig(workload=workload, policy="none", seed=seed, epochs=epochs),
        train=TrainConfig(),
        growth=replace(
            GrowthConfig(),
            shadow_every=SHADOW_EVERY,
            path=PATH,
            gates=replace(GateConfig(), interface_loss_ratio_max=INTERFACE_RATIO_MAX),
        ),
        budgets=replace(BudgetConfig(), tamiyo_inference_ms=WAITS_MS, epoch_boundary_ms=WAITS_MS),
        checkpoint=replace(CheckpointConfig(), every_epochs=0, boundaries=0),
    )
