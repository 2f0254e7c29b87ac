"""The emergency level under random troubles and orders, beside a model that looks at the whole history."""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contracts.config import EmergencyConfig
from contracts.emergency import NONE, EmergencyState, Level, Trigger, Trouble
from esper.tolaria.emergency import OF_THE_PROCESS, RULES, Emergencies

BREAKS = (Trigger.NOT_FINITE, Trigger.LOSS_EXPLODED)
LASTING = [trigger for trigger, rule in RULES.items() if rule.lasts]
INCIDENTS = [
    trigger for trigger, one in RULES.items() if NONE < one.level < Level.HALT and trigger not in BREAKS
]
FATAL = [trigger for trigger, one in RULES.items() if one.level is Level.HALT]
SUBJECTS = st.sampled_from(["", "a#0", "b#0"])


@dataclass
class Model:
    """The level by its definition: nothing is counted along, everything is looked up in the history."""

    calm: int
    demands: list[Level] = field(default_factory=list)
    """The worst of each boundary that is over."""
    seen: list[Level] = field(default_factory=list)
    """What was asked for since."""
    lasting: dict[tuple[Trigger, str], Level] = field(default_factory=dict)
    own: Level = NONE
    changed_at: int = 0
    """Boundaries that were over when `own` changed last."""
    floor: Level = NONE
    held: bool = False
    broke: list[int] = field(default_factory=list)

    @property
    def level(self) -> Level:
        return max(self.own, self.floor)

    @property
    def asked(self) -> Level:
        return max([NONE, *self.seen, *self.lasting.values()])

    def see(self, key: tuple[Trigger, str], level: Level) -> None:
        self.seen.append(level)
        if RULES[key[0]].lasts:
            self.lasting[key] = level
        if level > self.own:
            self.own, self.changed_at = level, len(self.demands)
        if self.held:
            self.floor = self.level

    def boundary(self) -> None:
        self.demands.append(self.asked)
        self.seen.clear()
        newest = self.demands[self.changed_at :][-self.calm :]
        quiet = len(newest) == self.calm and all(one < self.own for one in newest)
        if quiet and NONE < self.own < Level.HALT:
            self.own, self.changed_at = Level(self.own - 1), len(self.demands)


class EmergencyMachine(RuleBasedStateMachine):
    """Tells both the same, and compares."""

    @initialize(calm=st.integers(2, 4), rollbacks_max=st.integers(0, 3), window=st.integers(1, 6))
    def start(self, calm: int, rollbacks_max: int, window: int) -> None:
        self.config = EmergencyConfig(calm_epochs=calm, rollbacks_max=rollbacks_max, rollback_window=window)
        self.emergencies, self.model = Emergencies(self.config), Model(calm)
        self.epoch = 1
        self.lowest = NONE
        """The level may not be below this while it is held."""

    @property
    def halted(self) -> bool:
        return self.model.level is Level.HALT

    def tell(self, trigger: Trigger, subject: str, level: Level) -> None:
        before = self.emergencies.level
        ordered = self.emergencies.see(Trouble(trigger, "", self.epoch, {}, subject, level))
        if not self.halted:
            self.model.see((trigger, subject), level or RULES[trigger].level)
        assert (ordered.before, ordered.level) == (before, self.model.level)
        assert not ordered.rollback

    @rule(trigger=st.sampled_from(INCIDENTS), subject=SUBJECTS)
    def incident(self, trigger: Trigger, subject: str) -> None:
        self.tell(trigger, subject, NONE)

    @rule(trigger=st.sampled_from(FATAL), rarely=st.integers(0, 9))
    def fatal(self, trigger: Trigger, rarely: int) -> None:
        if rarely == 0:
            self.tell(trigger, "", NONE)

    @rule(level=st.sampled_from([Level.NOTICE, Level.ELEVATED, Level.CONSERVATIVE]), subject=SUBJECTS)
    def from_outside(self, level: Level, subject: str) -> None:
        self.tell(Trigger.OPERATOR, subject, level)

    @rule(trigger=st.sampled_from(LASTING), subject=SUBJECTS)
    def over(self, trigger: Trigger, subject: str) -> None:
        known = (trigger, subject) in self.model.lasting
        assert self.emergencies.over(trigger, subject) == known
        self.model.lasting.pop((trigger, subject), None)

    @rule(trigger=st.sampled_from(BREAKS))
    def breaks(self, trigger: Trigger) -> None:
        ordered = self.emergencies.see(Trouble(trigger, "", self.epoch))
        if self.halted:
            assert not ordered.rollback
            return
        recent = [one for one in self.model.broke if self.epoch - one < self.config.rollback_window]
        may = len(recent) < self.config.rollbacks_max
        assert ordered.rollback == may
        self.model.see((trigger, ""), Level.CONSERVATIVE if may else Level.HALT)
        if may:
            assert ordered.moments_back == sum(one >= self.epoch for one in recent)
            self.model.broke = [*recent, self.epoch]
            self.epoch = max(0, self.epoch - ordered.moments_back)

    @rule(boundaries=st.integers(1, 6))
    def boundaries(self, boundaries: int) -> None:
        for _ in range(boundaries):
            before = self.emergencies.level
            ordered = self.emergencies.calm(self.epoch)
            if not self.halted:
                self.model.boundary()
            self.epoch += 1
            assert before - ordered.level in (0, 1), "it falls by one step at most, and never rises"

    @rule(level=st.sampled_from([Level.NOTICE, Level.ELEVATED, Level.CONSERVATIVE]))
    def force(self, level: Level) -> None:
        self.emergencies.force(level, self.epoch, "test")
        if not self.halted:
            self.model.floor, self.model.held = level, False
            self.lowest = NONE

    @rule()
    def hold(self) -> None:
        self.emergencies.hold(self.epoch, "test")
        if not self.halted:
            self.model.floor, self.model.held = self.model.level, True
            self.lowest = self.model.level

    @rule()
    def release(self) -> None:
        ordered = self.emergencies.release(self.epoch, "test")
        if not self.halted:
            self.model.floor, self.model.held, self.lowest = NONE, False, NONE
            assert ordered.level is self.model.own

    @precondition(lambda self: not self.halted)
    @rule()
    def resume(self) -> None:
        state = msgspec.json.decode(msgspec.json.encode(self.emergencies.state()), type=EmergencyState)
        self.emergencies = Emergencies(self.config)
        self.emergencies.restore(state)
        gone = [key for key in self.model.lasting if key[0] in OF_THE_PROCESS]
        for key in gone:
            del self.model.lasting[key]

    @invariant()
    def it_is_what_the_history_says(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.emergencies.level is self.model.level
        assert self.emergencies.level >= self.model.asked, "never below an open trouble"
        assert self.emergencies.level >= self.lowest, "never below what is held"
        lasting = {(one.trigger, one.subject) for one in self.emergencies.open if RULES[one.trigger].lasts}
        assert lasting == set(self.model.lasting)


TestEmergencies = EmergencyMachine.TestCase
TestEmergencies.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@pytest.mark.slow
def test_many_histories() -> None:
    thorough = settings(max_examples=500, stateful_step_count=60, deadline=None)
    run_state_machine_as_test(EmergencyMachine, settings=thorough)  # type: ignore[no-untyped-call]
