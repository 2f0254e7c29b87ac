"""The emergency level: what each trouble comes to, how the level falls again, and what an operator can do."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.config import EmergencyConfig
from contracts.emergency import NONE, EmergencyState, Level, Ordered, Trigger, Trouble
from esper.tolaria.emergency import OF_THE_PROCESS, RULES, Emergencies

CONFIG = EmergencyConfig()
CALM = CONFIG.calm_epochs


def trouble(trigger: Trigger, epoch: int = 1, subject: str = "", level: Level = NONE) -> Trouble:
    return Trouble(trigger, f"{trigger} in epoch {epoch}", epoch, {}, subject, level)


def after(*triggers: Trigger) -> Emergencies:
    found = Emergencies(CONFIG)
    for trigger in triggers:
        found.see(trouble(trigger))
    return found


def calm(emergencies: Emergencies, boundaries: int) -> list[Level]:
    """The level after each of so many boundaries without a new trouble."""
    return [emergencies.calm(epoch).level for epoch in range(1, boundaries + 1)]


def test_a_run_begins_without_any_level() -> None:
    fresh = Emergencies(CONFIG)
    assert fresh.level is NONE
    assert (fresh.resting, fresh.conservative, fresh.halted) == (False, False, False)
    assert fresh.open == ()
    assert calm(fresh, 5) == [NONE] * 5


def test_every_trigger_has_a_rule() -> None:
    assert set(RULES) == set(Trigger)


@pytest.mark.parametrize(
    ("trigger", "level"),
    [
        (Trigger.NOT_FINITE, Level.CONSERVATIVE),
        (Trigger.LOSS_EXPLODED, Level.CONSERVATIVE),
        (Trigger.ROLLBACK_FAILED, Level.HALT),
        (Trigger.ISOLATION, Level.NOTICE),
        (Trigger.QUARANTINE, Level.ELEVATED),
        (Trigger.BOUNDARY_SLOW, Level.NOTICE),
        (Trigger.BOUNDARIES_SLOW, Level.CONSERVATIVE),
        (Trigger.LOOP_STALLED, Level.NOTICE),
        (Trigger.STEP_STALLED, Level.HALT),
        (Trigger.MEMORY, Level.CONSERVATIVE),
        (Trigger.MEMORY_SPENT, Level.HALT),
        (Trigger.DISK_FULL, Level.ELEVATED),
        (Trigger.CHECKPOINT_FAILED, Level.NOTICE),
        (Trigger.JOURNAL_FAILED, Level.NOTICE),
        (Trigger.ACTOR_FAILED, Level.ELEVATED),
        (Trigger.FOREIGN_RATE, Level.CONSERVATIVE),
    ],
)
def test_a_trouble_raises_the_level_at_once(trigger: Trigger, level: Level) -> None:
    emergencies = Emergencies(CONFIG)
    ordered = emergencies.see(trouble(trigger, 7))
    assert (ordered.before, ordered.level) == (NONE, level)
    assert emergencies.level is level
    assert ordered.rollback == (trigger in (Trigger.NOT_FINITE, Trigger.LOSS_EXPLODED))
    assert ordered.news
    assert (emergencies.reason, emergencies.since) == (f"{trigger} in epoch 7", 7)


@pytest.mark.parametrize("level", [Level.NOTICE, Level.ELEVATED, Level.CONSERVATIVE, Level.HALT])
def test_what_someone_outside_asks_for_is_the_level(level: Level) -> None:
    emergencies = Emergencies(CONFIG)
    assert emergencies.see(trouble(Trigger.OPERATOR, level=level)).level is level


@pytest.mark.parametrize(
    ("level", "resting", "conservative", "halted"),
    [
        (Level.NOTICE, False, False, False),
        (Level.ELEVATED, True, False, False),
        (Level.CONSERVATIVE, True, True, False),
        (Level.HALT, True, True, True),
    ],
)
def test_each_level_does_what_the_one_below_does_and_more(
    level: Level, resting: bool, conservative: bool, halted: bool
) -> None:
    emergencies = Emergencies(CONFIG)
    emergencies.force(level, 1, "test")
    assert (emergencies.resting, emergencies.conservative, emergencies.halted) == (
        resting,
        conservative,
        halted,
    )


def test_a_lesser_trouble_does_not_lower_the_level() -> None:
    emergencies = after(Trigger.FOREIGN_RATE)
    ordered = emergencies.see(trouble(Trigger.ISOLATION))
    assert ordered.level is Level.CONSERVATIVE
    assert not ordered.changed
    assert emergencies.reason == "foreign_rate in epoch 1"


def test_the_level_falls_one_step_after_three_quiet_boundaries() -> None:
    emergencies = after(Trigger.FOREIGN_RATE)
    emergencies.calm(1)
    assert emergencies.boundaries_left == CALM
    assert calm(emergencies, 3 * CALM) == [
        *[Level.CONSERVATIVE] * (CALM - 1),
        *[Level.ELEVATED] * CALM,
        *[Level.NOTICE] * CALM,
        NONE,
    ]
    assert emergencies.boundaries_left == 0


def test_a_trouble_that_lasts_keeps_its_level_until_it_is_over() -> None:
    emergencies = after(Trigger.DISK_FULL, Trigger.FOREIGN_RATE)
    assert set(calm(emergencies, 10 * CALM)[-5 * CALM :]) == {Level.ELEVATED}
    assert emergencies.open == (trouble(Trigger.DISK_FULL),)
    assert emergencies.over(Trigger.DISK_FULL)
    assert emergencies.level is Level.ELEVATED, "not at once"
    assert calm(emergencies, CALM)[-1] is Level.NOTICE


def test_only_a_lasting_trouble_that_is_open_can_be_over() -> None:
    emergencies = after(Trigger.ISOLATION)
    assert not emergencies.over(Trigger.ISOLATION)
    assert not emergencies.over(Trigger.DISK_FULL)
    assert emergencies.open == (trouble(Trigger.ISOLATION),)
    emergencies.see(trouble(Trigger.ACTOR_FAILED, subject="reports"))
    assert not emergencies.over(Trigger.ACTOR_FAILED, "nissa")
    assert emergencies.over(Trigger.ACTOR_FAILED, "reports")


@given(st.lists(st.integers(1, CALM), min_size=1, max_size=12), st.sampled_from([*Trigger]))
def test_a_trouble_that_comes_and_goes_does_not_toggle_the_level(gaps: list[int], trigger: Trigger) -> None:
    emergencies = Emergencies(EmergencyConfig(rollbacks_max=1000))
    ordered = emergencies.see(trouble(trigger, level=Level.ELEVATED))
    reached, changes = ordered.level, 0
    for gap in gaps:
        changes += sum(emergencies.calm(1).changed for _ in range(gap))
        emergencies.over(trigger)
        changes += emergencies.see(trouble(trigger, level=Level.ELEVATED)).changed
    assert emergencies.level is reached
    assert changes == 0, "it was away for fewer boundaries than it takes to fall"


def test_the_level_does_not_flicker_for_a_run_that_ever_again_breaks() -> None:
    emergencies = Emergencies(CONFIG)
    changes = 0
    for epoch in range(200):
        if epoch % 2:
            changes += emergencies.see(trouble(Trigger.BOUNDARIES_SLOW, epoch)).changed
        changes += emergencies.calm(epoch).changed
    assert changes == 1


def test_news_is_told_once_until_it_has_been_away() -> None:
    emergencies = Emergencies(CONFIG)
    told = []
    for epoch in range(10):
        told.append(emergencies.see(trouble(Trigger.ISOLATION, epoch, "a#0")).news)
        emergencies.calm(epoch)
    assert told == [True] + 9 * [False]
    assert emergencies.see(trouble(Trigger.ISOLATION, 10, "b#0")).news, "of another seed it is news"
    calm(emergencies, CALM + 1)
    assert emergencies.see(trouble(Trigger.ISOLATION, 20, "a#0")).news


# Rollbacks ---------------------------------------------------------------------------------------------


def broken(emergencies: Emergencies, *epochs: int) -> list[Ordered]:
    return [emergencies.see(trouble(Trigger.NOT_FINITE, epoch)) for epoch in epochs]


def test_a_break_is_gone_back_from_and_a_fourth_within_the_window_halts() -> None:
    *gone_back, last = broken(Emergencies(CONFIG), 5, 9, 14, 20)
    assert [one.rollback for one in gone_back] == [True] * 3
    assert {one.level for one in gone_back} == {Level.CONSERVATIVE}
    assert not last.rollback
    assert last.level is Level.HALT
    assert last.reason == (
        "not_finite in epoch 20; going back does not help: it was done 3 times within 20 epochs"
    )


def test_breaks_far_from_each_other_are_each_gone_back_from() -> None:
    apart = CONFIG.rollback_window // CONFIG.rollbacks_max + 1
    found = broken(Emergencies(CONFIG), *range(10, 10 + 20 * apart, apart))
    assert all(one.rollback and not one.moments_back for one in found)


def test_what_going_back_did_not_help_goes_back_further() -> None:
    first, again, further, last = broken(Emergencies(CONFIG), 10, 10, 9, 8)
    assert [first.moments_back, again.moments_back, further.moments_back] == [0, 1, 2]
    assert last.level is Level.HALT


def test_a_run_that_came_beyond_the_break_goes_back_to_the_newest_moment_again() -> None:
    assert [one.moments_back for one in broken(Emergencies(CONFIG), 10, 11, 11)] == [0, 0, 1]


def test_without_any_rollback_allowed_the_first_break_halts() -> None:
    emergencies = Emergencies(EmergencyConfig(rollbacks_max=0))
    (ordered,) = broken(emergencies, 3)
    assert ordered.level is Level.HALT
    assert not ordered.rollback


def test_a_rise_asks_for_a_checkpoint_unless_it_is_checkpoints_that_fail() -> None:
    assert Emergencies(CONFIG).see(trouble(Trigger.QUARANTINE)).checkpoint
    assert not Emergencies(CONFIG).see(trouble(Trigger.ISOLATION)).checkpoint
    assert not Emergencies(CONFIG).see(trouble(Trigger.DISK_FULL)).checkpoint
    assert not after(Trigger.QUARANTINE).see(trouble(Trigger.JOURNAL_FAILED)).checkpoint, "it did not rise"


# HALT --------------------------------------------------------------------------------------------------


def test_halt_is_final() -> None:
    emergencies = after(Trigger.STEP_STALLED)
    state = emergencies.state()
    answers = [
        emergencies.see(trouble(Trigger.NOT_FINITE)),
        emergencies.force(Level.NOTICE, 1, "test"),
        emergencies.release(1, "test"),
        emergencies.calm(1),
    ]
    assert [(one.level, one.rollback, one.changed) for one in answers] == [(Level.HALT, False, False)] * 4
    calm(emergencies, 10)
    assert emergencies.level is Level.HALT
    assert emergencies.reason == state.reason


# The operator ------------------------------------------------------------------------------------------


def test_a_forced_level_stays_until_it_is_released() -> None:
    emergencies = Emergencies(CONFIG)
    assert emergencies.force(Level.CONSERVATIVE, 4, "anna").reason == "forced by anna"
    assert set(calm(emergencies, 20)) == {Level.CONSERVATIVE}
    released = emergencies.release(25, "anna")
    assert (released.before, released.level) == (Level.CONSERVATIVE, NONE)


def test_troubles_rise_above_what_is_forced_and_fall_back_to_it() -> None:
    emergencies = Emergencies(CONFIG)
    emergencies.force(Level.ELEVATED, 1, "anna")
    assert emergencies.see(trouble(Trigger.BOUNDARIES_SLOW)).level is Level.CONSERVATIVE
    assert calm(emergencies, 20)[-1] is Level.ELEVATED


def test_a_lower_level_can_be_forced_but_not_below_the_troubles() -> None:
    emergencies = after(Trigger.MEMORY)
    assert not emergencies.force(Level.NOTICE, 1, "anna").changed
    assert emergencies.level is Level.CONSERVATIVE


def test_what_is_held_rises_and_does_not_fall() -> None:
    emergencies = after(Trigger.QUARANTINE)
    emergencies.hold(1, "anna")
    assert set(calm(emergencies, 20)) == {Level.ELEVATED}
    emergencies.see(trouble(Trigger.FOREIGN_RATE))
    assert set(calm(emergencies, 20)) == {Level.CONSERVATIVE}
    assert (emergencies.held, emergencies.forced) == (True, Level.CONSERVATIVE)
    assert emergencies.release(50, "anna").level is NONE, "the troubles are long over"


def test_release_goes_back_to_what_the_troubles_have_come_to() -> None:
    emergencies = after(Trigger.QUARANTINE)
    emergencies.force(Level.CONSERVATIVE, 1, "anna")
    assert emergencies.release(1, "anna").level is Level.ELEVATED


def test_no_level_can_not_be_forced() -> None:
    emergencies = after(Trigger.QUARANTINE)
    before = emergencies.state()
    with pytest.raises(ValueError, match="release"):
        emergencies.force(NONE, 1, "anna")
    assert emergencies.state() == before


# Going on in another process ---------------------------------------------------------------------------


def reborn(emergencies: Emergencies) -> Emergencies:
    state = msgspec.json.decode(msgspec.json.encode(emergencies.state()), type=EmergencyState)
    new = Emergencies(CONFIG)
    new.restore(state)
    return new


def test_the_state_goes_on_where_it_was() -> None:
    emergencies = after(Trigger.NOT_FINITE, Trigger.JOURNAL_FAILED, Trigger.ISOLATION)
    emergencies.hold(2, "anna")
    calm(emergencies, 2)
    again = reborn(emergencies)
    assert again.state() == emergencies.state()
    assert calm(again, 9) == calm(emergencies, 9)


def test_a_halt_is_not_taken_over_by_the_process_that_resumes() -> None:
    emergencies = after(Trigger.JOURNAL_FAILED, Trigger.MEMORY_SPENT)
    again = reborn(emergencies)
    assert again.level is Level.CONSERVATIVE
    assert calm(again, 20)[-1] is Level.NOTICE, "the journal still fails, as far as is known"


def test_a_halt_that_an_operator_ordered_is_over_with_the_process_that_it_ended() -> None:
    emergencies = after(Trigger.BOUNDARY_SLOW)
    emergencies.hold(1, "anna")
    emergencies.force(Level.HALT, 2, "anna")
    again = reborn(emergencies)
    assert (again.held, again.forced) == (False, NONE)
    assert calm(again, 20)[-1] is NONE


def test_troubles_of_the_process_end_with_it() -> None:
    again = reborn(after(*sorted(OF_THE_PROCESS)))
    assert not again.open
    assert again.level is Level.CONSERVATIVE
    assert calm(again, 20)[-1] is NONE
