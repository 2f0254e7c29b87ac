"""The drill's policy asks for a trial first, germinates once, and never takes anything out."""

from contracts.growth import Candidate
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import CommandSeedOperation
from esper.drill.policy import DrillPolicy, TrialDesk
from esper.drill.programme import PATH
from esper.drill.report import TrialReport
from esper.tamiyo.action import Advance, Germinate, Wait, command_for
from tests.esper.tamiyo.views import seed, state, view

CANDIDATE = Candidate("body.0", "BP045", {"width": 2.0, "onset": 9.0})


def test_nothing_is_germinated_before_a_trial_was_asked_for_and_passed() -> None:
    desk = TrialDesk()
    policy = DrillPolicy(CANDIDATE, PATH, 4, desk)
    assert policy.act(state(), view(3)) == Wait("not yet")
    assert not desk.wanted
    assert isinstance(policy.act(state(), view(4)), Wait)
    assert desk.wanted
    assert isinstance(policy.act(state(), view(5)), Wait)
    desk.report = TrialReport(True, 8)
    action = policy.act(state(), view(6))
    assert action == Germinate(CANDIDATE, PATH, "it has passed its trial", drill=True)
    assert isinstance(policy.act(state(), view(7)), Wait)


def test_a_trial_that_was_not_passed_ends_it() -> None:
    policy = DrillPolicy(CANDIDATE, PATH, 4, TrialDesk(True, TrialReport(False, 1, "time")))
    for epoch in range(4, 30):
        assert policy.act(state(), view(epoch)) == Wait("the trial was not passed: time")


def test_a_seed_is_taken_along_when_its_time_is_served() -> None:
    policy = DrillPolicy(CANDIDATE, PATH, 4, TrialDesk(True, TrialReport(True, 8)))
    policy.act(state(), view(5))
    growing = seed(Stage.TRAINING, stage_epoch=6, path=PATH)
    assert isinstance(policy.act(state(), view(7, (growing,))), Wait)
    action = policy.act(state(), view(6 + PATH.training_epochs, (growing,)))
    assert isinstance(action, Advance)
    assert action.operation is SeedOperation.START_GRAFTING


def test_only_a_drill_s_germination_says_so_on_the_wire() -> None:
    plain, drill = (
        command_for(Germinate(CANDIDATE, PATH, drill=drill), "c", "drill", 0) for drill in (False, True)
    )
    assert isinstance(drill.payload, CommandSeedOperation)
    assert drill.annotations["drill"] == "true"
    assert "drill" not in plain.annotations
