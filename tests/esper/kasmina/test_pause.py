"""A paused seed's clock stands still, and only what takes it out moves it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.config import GrowthConfig
from contracts.growth import SeedView
from contracts.lifecycle import ACTIVE, SeedOperation, Stage
from contracts.messages import AdaptationCommand
from esper.kasmina.plan import Pause, Remove, Resume, SetAlpha
from esper.tamiyo import action
from esper.tamiyo.passage import next_step
from tests.esper.kasmina.engine_world import AT_ONCE, Rig

RESUME = {"resume": "true"}
TAKEN_TO = {
    Stage.GERMINATED: SeedOperation.GERMINATE,
    Stage.TRAINING: SeedOperation.START_TRAINING,
    Stage.BLENDING: SeedOperation.START_GRAFTING,
    Stage.SHADOWING: SeedOperation.STABILIZE,
    Stage.PROBATIONARY: SeedOperation.EVALUATE,
}


@pytest.mark.parametrize("stage", sorted(ACTIVE))
def test_a_seed_in_progress_can_be_paused_and_is_passed_over(stage: Stage) -> None:
    rig = Rig()
    before = rig.grown(TAKEN_TO[stage])
    rig.epoch = 1
    (change,) = rig.do(rig.pausing()).plan.changes
    assert isinstance(change, Pause)
    assert change.record == replace(before, paused_since=1)
    rig.epoch = 3
    for operation in (*TAKEN_TO.values(), SeedOperation.FOSSILIZE, SeedOperation.FINE_TUNE):
        verdict = rig.propose(rig.command(operation))
        assert not verdict.applied
        assert verdict.plan.changes == ()
    assert "a#0 is paused since epoch 1; resume it first" in rig.propose(rig.pausing()).refusal
    assert next_step(SeedView(rig.record(), rig.healthy()["a#0"], 1.0, 3), 99) is None


@pytest.mark.parametrize("operation", [None, SeedOperation.FOSSILIZE, SeedOperation.CULL])
def test_what_is_not_in_progress_can_neither_be_paused_nor_resumed(operation: SeedOperation | None) -> None:
    rig = Rig()
    if operation is not None:
        rig.grown(operation)
    state = rig.engine.state()
    assert "can't be paused; it can while" in rig.propose(rig.pausing()).refusal
    assert "is not paused: there is nothing to resume" in rig.propose(rig.pausing(**RESUME)).refusal
    assert rig.engine.state() == state


@given(served=st.integers(0, 3), lasted=st.integers(1, 9))
def test_the_ramp_goes_on_where_it_was_paused(served: int, lasted: int) -> None:
    def alphas(pause: bool) -> list[float]:
        rig = Rig(GrowthConfig(path=AT_ONCE, pause_epochs_max=9))
        rig.grown(SeedOperation.START_GRAFTING, blending_epochs=5.0)
        seen = [rig.record().alpha]
        for _ in range(served):
            rig.epoch += 1
            rig.do(rig.pause())
            seen.append(rig.record().alpha)
        if pause:
            rig.do(rig.pausing())
            for _ in range(lasted - 1):
                rig.epoch += 1
                assert rig.do(rig.pause()).plan.changes == ()
            rig.epoch += 1
            verdict = rig.do(rig.pausing(**RESUME))
            assert all(isinstance(change, Resume) for change in verdict.plan.changes)
            assert (rig.record().stage_epoch, rig.record().paused_epochs) == (lasted, lasted)
        while rig.record().alpha < 1.0:
            rig.epoch += 1
            rig.do(rig.pause())
            seen.append(rig.record().alpha)
        return seen

    assert alphas(pause=True) == alphas(pause=False)


def test_a_seed_resumes_by_itself_when_its_epochs_of_pause_are_spent() -> None:
    rig = Rig(GrowthConfig(path=AT_ONCE, pause_epochs_max=3))
    rig.grown(SeedOperation.START_TRAINING)
    rig.do(rig.pausing())
    rig.epoch = 1
    rig.do(rig.pausing(**RESUME))
    rig.do(rig.pausing())
    for epoch, paused in ((2, True), (3, False)):
        rig.epoch = epoch
        rig.do(rig.pause())
        assert rig.record().paused is paused
    assert rig.record().paused_epochs == 3
    assert "was paused for 3 epochs of the 3" in rig.propose(rig.pausing()).refusal


def test_a_paused_seed_can_be_taken_out() -> None:
    rig = Rig()
    rig.grown(SeedOperation.EVALUATE)
    rig.do(rig.pausing())
    unsound = rig.healthy() | {"a#0": replace(rig.healthy()["a#0"], finite=False)}
    for verdict in (
        rig.propose(rig.command(SeedOperation.CULL)),
        rig.propose(rig.terminating()),
        rig.propose(rig.pause(), unsound),
    ):
        (change,) = verdict.plan.changes
        assert isinstance(change, Remove)
        assert not change.record.paused


def test_a_pause_is_part_of_the_engines_state() -> None:
    rig, resumed = Rig(), Rig()
    rig.grown(SeedOperation.START_GRAFTING, blending_epochs=2.0)
    rig.do(rig.pausing())
    resumed.engine.restore(rig.engine.state())
    resumed.epoch = 4
    assert resumed.propose(resumed.pause()).plan.changes == ()
    resumed.engine.commit(resumed.propose(rig.pausing(**RESUME)).plan.plan_id)
    assert resumed.record().stage_epoch == 4
    resumed.epoch = 5
    (change,) = resumed.propose(resumed.pause()).plan.changes
    assert isinstance(change, SetAlpha)


def test_the_action_becomes_the_command_that_the_engine_takes() -> None:
    rig = Rig()
    rig.grown(SeedOperation.START_TRAINING)

    def command(name: str, resume: bool) -> AdaptationCommand:
        return action.command_for(action.Pause("a#0", resume), name, "tamiyo/any", 0)

    assert rig.do(command("one", resume=False)).applied
    assert rig.record().paused
    assert rig.do(command("two", resume=True)).applied
    assert not rig.record().paused
