"""Claims about the caretaker, one boundary at a time, and about who decides when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.config import GateConfig, GrowthConfig
from contracts.growth import GrowthView, Path, ProbePlan, SeedView
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import CommandType, SystemState
from esper.tamiyo.action import Action, Advance, Cull, Wait
from esper.tamiyo.baselines import NeverGrow
from esper.tamiyo.caretaker import Caretaker
from esper.tamiyo.controller import Controller
from tests.esper.tamiyo.views import seed, state, view

GATES = GateConfig()
PATH = Path(0, 0, 0, 4)
FLOOR = GATES.gain_min / GATES.conservative_factor
"""Gain that has to be had in conservative mode, of a loss of 1 without the seed."""


def act(*seeds: SeedView, epoch: int = 20) -> Action:
    return Caretaker(GATES).act(state(epoch), view(epoch, seeds, conservative=True))


def figured(one: SeedView, **figures: object) -> SeedView:
    return replace(one, figures=replace(one.figures, **figures))


def on_probation(gain: float | None, since: int = 16) -> SeedView:
    return seed(Stage.PROBATIONARY, stage_epoch=since, path=PATH, gain=gain)


def test_nothing_is_germinated_and_nothing_measured() -> None:
    assert isinstance(act(), Wait)
    assert Caretaker(GATES).survey(state(), view(conservative=True)) is None


def test_what_gains_is_fossilized_at_the_end_of_its_probation() -> None:
    action = act(on_probation(gain=2 * FLOOR))
    assert isinstance(action, Advance)
    assert action.operation is SeedOperation.FOSSILIZE


def test_what_gains_enough_for_the_usual_gate_only_is_culled() -> None:
    gain = (GATES.gain_min + FLOOR) / 2
    assert GATES.gain_min < gain < FLOOR
    action = act(on_probation(gain))
    assert isinstance(action, Cull)
    assert action.reason.startswith("conservative mode: gain is ")


def test_before_the_end_of_its_probation_it_waits() -> None:
    assert isinstance(act(on_probation(gain=2 * FLOOR), epoch=18), Wait)


def test_it_is_not_judged_before_its_gain_is_measured() -> None:
    assert isinstance(act(on_probation(gain=None)), Wait)


def test_a_seed_that_hurts_on_probation_does_not_wait_for_its_end() -> None:
    hurts = figured(on_probation(gain=-0.5, since=18), starved_tensors=0)
    action = act(hurts)
    assert isinstance(action, Cull)
    assert "loss_with" in action.reason
    not_looked_at = figured(hurts, starved_tensors=None)
    assert isinstance(act(not_looked_at), Wait), "what was not measured is no reason"


def test_a_blending_seed_that_drowns_the_host_is_culled() -> None:
    blending = seed(Stage.BLENDING, stage_epoch=19, path=Path(0, 3, 0, 4))
    limit = GATES.rms_ratio_max * GATES.conservative_factor
    assert isinstance(act(figured(blending, rms_ratio=1.1 * limit, finite=True)), Cull)
    assert isinstance(act(figured(blending, rms_ratio=0.9 * limit, finite=True)), Wait)


def test_what_the_engine_takes_out_by_itself_is_left_to_it() -> None:
    assert isinstance(act(figured(on_probation(gain=0.5), finite=False)), Wait)


def test_a_seed_that_is_too_often_not_isolated_for_the_tightened_gates_is_culled() -> None:
    isolated = seed(Stage.TRAINING, stage_epoch=19, path=Path(5, 0, 0, 4))
    count = int(GATES.isolation_violations_max * GATES.conservative_factor) + 1
    assert count <= GATES.isolation_violations_max
    assert isinstance(act(figured(isolated, isolation_violations=count)), Cull)
    assert isinstance(act(figured(isolated, isolation_violations=count - 1)), Wait)


@pytest.mark.parametrize("stage", [Stage.GERMINATED, Stage.TRAINING])
def test_no_seed_is_let_into_the_host(stage: Stage) -> None:
    waiting = seed(stage, stage_epoch=18, path=Path(1, 0, 0, 4))
    assert isinstance(act(waiting), Wait)


def test_a_seed_that_gets_nowhere_is_given_up() -> None:
    path = Path(2, 0, 0, 4)
    waiting = seed(Stage.TRAINING, stage_epoch=10, path=path)
    assert isinstance(act(waiting, epoch=10 + 6), Wait)
    action = act(waiting, epoch=10 + 7)
    assert isinstance(action, Cull)
    assert "does not get out of training" in action.reason


def test_a_paused_seed_is_left_alone() -> None:
    paused = on_probation(gain=-1.0)
    assert isinstance(act(replace(paused, record=replace(paused.record, paused_since=17))), Wait)


def test_the_second_seed_is_tended_while_the_first_waits() -> None:
    first = on_probation(gain=None)
    second = seed(Stage.PROBATIONARY, "body.1", stage_epoch=16, path=PATH, gain=2 * FLOOR)
    action = act(first, second)
    assert isinstance(action, Advance)
    assert action.seed_id == second.record.seed_id


@given(
    stage=st.sampled_from(
        [Stage.GERMINATED, Stage.TRAINING, Stage.BLENDING, Stage.SHADOWING, Stage.PROBATIONARY]
    ),
    since=st.integers(0, 20),
    gain=st.none() | st.floats(-1, 1),
    path=st.tuples(*[st.integers(0, 4)] * 4).map(lambda epochs: Path(*epochs)),
)
def test_whatever_grows_it_ends_within_a_bounded_time(
    stage: Stage, since: int, gain: float | None, path: Path
) -> None:
    one = seed(stage, stage_epoch=since, path=path, gain=gain)
    much_later = since + 2 * sum((4, 4, 4, 4)) + 2
    assert isinstance(act(one, epoch=much_later), Cull)


def test_every_figure_may_be_missing() -> None:
    for stage in (Stage.GERMINATED, Stage.BLENDING, Stage.SHADOWING, Stage.PROBATIONARY):
        act(seed(stage, stage_epoch=20, path=PATH))


# Who decides -------------------------------------------------------------------------------------------


class Curious(NeverGrow):
    """Always wants something measured."""

    name = "curious"

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return ProbePlan("p", (), ())


def test_the_caretaker_decides_exactly_while_growth_is_conservative() -> None:
    controller = Controller(Curious(), "run", fallback=Caretaker(GrowthConfig().gates))
    calm, wrong = view(10), view(11, conservative=True)
    decided = [controller.decide(state(), one, 0) for one in (calm, wrong, calm)]
    assert [one.issued_by for one in decided] == ["tamiyo/curious", "tamiyo/caretaker", "tamiyo/curious"]
    assert [one.command_id for one in decided] == ["run-c1", "run-c2", "run-c3"]
    assert {one.command_type for one in decided} == {CommandType.PAUSE}
    assert controller.survey(state(), calm) is not None
    assert controller.survey(state(), wrong) is None


def test_what_is_remembered_is_the_runs_own_policy() -> None:
    controller = Controller(Curious(), "run", fallback=Caretaker(GATES))
    controller.decide(state(), view(conservative=True), 0)
    assert controller.remember().policy == "curious"


def test_without_a_caretaker_the_policy_decides_itself() -> None:
    controller = Controller(Curious(), "run")
    assert controller.decide(state(), view(conservative=True), 0).issued_by == "tamiyo/curious"


def test_short_of_memory_the_newest_seed_is_culled_whatever_it_gains() -> None:
    older = on_probation(gain=2 * FLOOR)
    newer = seed(Stage.TRAINING, site="body.1", stage_epoch=19)
    newer = replace(newer, record=replace(newer.record, born_epoch=18))
    short = view(20, (newer, older), conservative=True, short_of_memory=True)
    action = Caretaker(GATES).act(state(20), short)
    assert isinstance(action, Cull)
    assert action.seed_id == newer.record.seed_id
    assert "more memory than its budget" in action.reason
    alone = Caretaker(GATES).act(state(20), replace(short, sites=view(20, (older,)).sites))
    assert isinstance(alone, Cull)
    assert alone.seed_id == older.record.seed_id, "also one that would be let in"
    assert isinstance(Caretaker(GATES).act(state(20), replace(short, sites=view(20).sites)), Wait)


@pytest.mark.parametrize("stage", [Stage.CULLED, Stage.EMBARGOED, Stage.RESETTING])
def test_short_of_memory_no_second_seed_is_culled_before_the_first_is_gone(stage: Stage) -> None:
    leaving = seed(stage, site="body.1", stage_epoch=19)
    sites = view(20, (on_probation(gain=None), leaving)).sites
    short = replace(view(20, conservative=True, short_of_memory=True), sites=sites)
    assert isinstance(Caretaker(GATES).act(state(20), short), Wait)
