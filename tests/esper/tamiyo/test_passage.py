"""Claims about taking a growing seed along its path."""

import pytest

from contracts.growth import Path
from contracts.lifecycle import MAIN_LINE, SeedOperation, Stage
from esper.tamiyo.passage import due, next_step
from tests.esper.tamiyo.views import seed, view

JOINT = Path(0, 0, 0, 4)
SLOW = Path(3, 2, 2, 4)


@pytest.mark.parametrize(
    ("stage", "path", "stay", "operation"),
    [
        (Stage.GERMINATED, JOINT, 1, SeedOperation.START_GRAFTING),
        (Stage.GERMINATED, SLOW, 1, SeedOperation.START_TRAINING),
        (Stage.TRAINING, SLOW, 3, SeedOperation.START_GRAFTING),
        (Stage.BLENDING, JOINT, 1, SeedOperation.EVALUATE),
        (Stage.BLENDING, SLOW, 2, SeedOperation.STABILIZE),
        (Stage.SHADOWING, SLOW, 2, SeedOperation.EVALUATE),
        (Stage.PROBATIONARY, SLOW, 4, SeedOperation.FOSSILIZE),
    ],
)
def test_a_seed_moves_when_its_stay_is_served_and_not_before(
    stage: Stage, path: Path, stay: int, operation: SeedOperation
) -> None:
    growing = seed(stage, stage_epoch=10, path=path, gain=0.1)
    assert all(next_step(growing, 10 + early) is None for early in range(stay))
    step = next_step(growing, 10 + stay)
    assert step is not None
    assert step.operation is operation
    assert step.seed_id == growing.record.seed_id


@pytest.mark.parametrize("stage", [Stage.BLENDING, Stage.SHADOWING, Stage.PROBATIONARY])
def test_a_gate_on_the_gain_is_not_tried_before_the_gain_was_measured(stage: Stage) -> None:
    path = Path(0, 0, 1, 1)
    operations = {
        step.operation
        for epoch in range(1, 9)
        if (step := next_step(seed(stage, path=path), epoch)) is not None
    }
    assert operations <= {SeedOperation.STABILIZE}


def test_a_refused_step_comes_up_again_after_another_stay() -> None:
    waiting = seed(Stage.PROBATIONARY, stage_epoch=0, path=JOINT, gain=0.1)
    offered = [epoch for epoch in range(1, 13) if next_step(waiting, epoch) is not None]
    assert offered == [4, 8, 12]


@pytest.mark.parametrize(
    "stage", [s for s in Stage if s not in MAIN_LINE or s in (Stage.DORMANT, Stage.FOSSILIZED)]
)
def test_a_seed_off_the_main_line_has_no_next_step(stage: Stage) -> None:
    assert next_step(seed(stage), 50) is None


def test_the_first_site_whose_seed_is_due_comes_first() -> None:
    young = seed(Stage.PROBATIONARY, "body.0", stage_epoch=9, path=JOINT)
    ripe = seed(Stage.BLENDING, "body.1", stage_epoch=9, path=JOINT, gain=0.1)
    step = due(view(epoch=10, seeds=(young, ripe)))
    assert step is not None
    assert step.seed_id == "body.1#1"
