"""How bad it is: troubles go in, a level comes out, and what has to be done at once.

    a trouble raises the level at once, to what `RULES` says of its trigger
    boundaries without one as bad, `calm_epochs` in a row, lower it by one step
    HALT is final

No clock and no chance: what follows depends only on what was told, in which order. A trouble is either an
incident, which is over with the boundary behind it, or it lasts until someone says that it is over. An
operator's level is a floor: until it is released the level stays at it or above.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from contracts.config import EmergencyConfig
from contracts.emergency import NONE, EmergencyState, Level, Ordered, Trigger, Trouble
from esper.tolaria.errors import TrainingDiverged


@dataclass(frozen=True)
class Rule:
    """What one kind of trouble comes to."""

    level: Level
    lasts: bool = False
    """It is open until someone says that it is over."""
    rolls_back: bool = False
    saves: bool = True
    """The newest moment goes to disk when the level rises because of it."""


RULES: Mapping[Trigger, Rule] = MappingProxyType(
    {
        Trigger.NOT_FINITE: Rule(Level.CONSERVATIVE, rolls_back=True),
        Trigger.LOSS_EXPLODED: Rule(Level.CONSERVATIVE, rolls_back=True),
        Trigger.ROLLBACK_FAILED: Rule(Level.HALT),
        Trigger.TRAINING_FAILED: Rule(Level.HALT),
        Trigger.ISOLATION: Rule(Level.NOTICE),
        Trigger.QUARANTINE: Rule(Level.ELEVATED),
        Trigger.BOUNDARY_SLOW: Rule(Level.NOTICE),
        Trigger.BOUNDARIES_SLOW: Rule(Level.CONSERVATIVE),
        Trigger.LOOP_STALLED: Rule(Level.NOTICE),
        Trigger.STEP_STALLED: Rule(Level.HALT),
        Trigger.MEMORY: Rule(Level.CONSERVATIVE, lasts=True),
        Trigger.MEMORY_SPENT: Rule(Level.HALT),
        Trigger.DISK_FULL: Rule(Level.ELEVATED, lasts=True, saves=False),
        Trigger.CHECKPOINT_FAILED: Rule(Level.NOTICE, lasts=True, saves=False),
        Trigger.JOURNAL_FAILED: Rule(Level.NOTICE, lasts=True),
        Trigger.ACTOR_FAILED: Rule(Level.ELEVATED, lasts=True),
        Trigger.FOREIGN_RATE: Rule(Level.CONSERVATIVE),
        Trigger.OPERATOR: Rule(NONE),  # the trouble says it itself
    }
)
OF_THE_PROCESS = frozenset({Trigger.ACTOR_FAILED, Trigger.MEMORY, Trigger.DISK_FULL})
"""Lasting troubles that a new process does not take over: it looks for itself."""


class Emergencies:
    """The run's emergency level; a plain object, used from the event loop alone.

    `state` and `restore` are for a resume. A rollback leaves it as it is: it knows what was gone back from.
    """

    def __init__(self, config: EmergencyConfig) -> None:
        self._config = config
        self._own = self._floor = self._peak = NONE
        self._held = False
        self._quiet = 0
        self._reason = ""
        self._since = 0
        self.memory_looks = 0
        """How often the process was found above its memory's budget; of this process alone."""
        self._open: dict[str, Trouble] = {}
        self._rollbacks: list[int] = []
        self._told: dict[str, int] = {}
        self._orders = 0

    @property
    def level(self) -> Level:
        """What holds now; NONE if nothing is wrong."""
        return max(self._own, self._floor)

    @property
    def resting(self) -> bool:
        """Nothing is germinated."""
        return self.level >= Level.ELEVATED

    @property
    def conservative(self) -> bool:
        """The caretaker decides, under tighter gates."""
        return self.level >= Level.CONSERVATIVE

    @property
    def halted(self) -> bool:
        """Training is over in this process."""
        return self.level is Level.HALT

    @property
    def reason(self) -> str:
        """Of the last change of level."""
        return self._reason

    @property
    def since(self) -> int:
        """Epoch of the last change of level."""
        return self._since

    @property
    def forced(self) -> Level:
        """The level that an operator forces or holds; NONE if none does."""
        return self._floor

    @property
    def held(self) -> bool:
        """An operator holds whatever level is reached."""
        return self._held

    @property
    def open(self) -> tuple[Trouble, ...]:
        """What is wrong now, or was since the last boundary; in the order in which it was told."""
        return tuple(self._open.values())

    @property
    def boundaries_left(self) -> int:
        """Quiet boundaries until the troubles' own level falls by a step; 0 if it does not."""
        return self._config.calm_epochs - self._quiet if NONE < self._own < Level.HALT else 0

    def see(self, trouble: Trouble) -> Ordered:
        """A trouble; the level rises at once if it has to. After HALT nothing is ordered any more."""
        before = self.level
        if before is Level.HALT:
            return self._ordered(before, trouble.text, trouble.epoch)
        rule, key = RULES[trouble.trigger], _key(trouble.trigger, trouble.subject)
        self.memory_looks += trouble.trigger is Trigger.MEMORY
        level, text, back = _level(trouble, rule), trouble.text, 0
        if rule.rolls_back:
            back, refusal = self._go_back(trouble.epoch)
            if refusal:
                level, text = Level.HALT, f"{text}; {refusal}"
        self._open[key] = trouble
        self._peak = max(self._peak, level)
        news = key not in self._told or rule.rolls_back
        self._told[key] = self._config.calm_epochs
        self._rise(level)
        rose = self.level > before
        return self._ordered(
            before,
            text,
            trouble.epoch,
            rollback=rule.rolls_back and level is not Level.HALT,
            moments_back=back,
            checkpoint=rule.saves and rose and self.resting,
            news=news or rose,
        )

    def over(self, trigger: Trigger, subject: str = "") -> bool:
        """A lasting trouble is over; whether it was open. The level falls when boundaries have been quiet."""
        if not self._open:
            return False
        return RULES[trigger].lasts and self._open.pop(_key(trigger, subject), None) is not None

    def calm(self, epoch: int) -> Ordered:
        """The boundary of `epoch` is over: if it was a quiet one, the level may fall by a step."""
        before = self.level
        demand = max(self._peak, self._lasting())
        self._peak = NONE
        if self._open or self._told:
            self._open = {key: one for key, one in self._open.items() if RULES[one.trigger].lasts}
            self._told = {key: left - 1 for key, left in self._told.items() if left > 1}
            self._told |= dict.fromkeys(self._open, self._config.calm_epochs)
        if demand >= self._own or self._own is Level.HALT:
            self._quiet = 0
        else:
            self._quiet += 1
            if self._quiet >= self._config.calm_epochs:
                self._own, self._quiet = Level(self._own - 1), 0
        return self._ordered(before, f"{self._config.calm_epochs} quiet boundaries", epoch)

    def force(self, level: Level, epoch: int, by: str) -> Ordered:
        """Set the level; it stays until it is released, or troubles rise above it. HALT is for good.

        Raises:
            ValueError: that is no level to force.
        """
        if level < Level.NOTICE:
            raise ValueError("no level is no order; release gives it back to the troubles")
        before = self.level
        self._orders += 1
        if before is not Level.HALT:
            self._floor, self._held = level, False
            if level is Level.HALT:
                self._own = level
        rose = self.level > before
        return self._ordered(before, f"forced by {by}", epoch, checkpoint=rose and self.resting, news=True)

    def hold(self, epoch: int, by: str) -> Ordered:
        """Keep the level from falling, also from where troubles take it, until it is released."""
        before = self.level
        self._floor, self._held = before, True
        self._orders += 1
        return self._ordered(before, f"held by {by}", epoch, news=True)

    def release(self, epoch: int, by: str) -> Ordered:
        """Nothing is forced or held any more: the level is at once what the troubles have come to."""
        before = self.level
        if before is not Level.HALT:
            self._floor, self._held = NONE, False
        self._orders += 1
        return self._ordered(before, f"released by {by}", epoch, news=True)

    def state(self) -> EmergencyState:
        """All that is remembered."""
        return EmergencyState(
            own=self._own,
            floor=self._floor,
            held=self._held,
            quiet=self._quiet,
            peak=self._peak,
            reason=self._reason,
            since=self._since,
            troubles=self.open,
            rollbacks=tuple(self._rollbacks),
            told=dict(self._told),
            orders=self._orders,
        )

    def restore(self, state: EmergencyState) -> None:
        """Go on from `state` in a new process: what was the old one's own is left behind, so is its HALT.

        An operator's HALT was for the process that it ended: no level is forced or held any more.
        """
        ended = state.floor is Level.HALT
        self._own, self._floor = min(state.own, Level.CONSERVATIVE), NONE if ended else state.floor
        self._peak = min(state.peak, Level.CONSERVATIVE)
        self._held, self._quiet = state.held and not ended, state.quiet
        self._reason, self._since = state.reason, state.since
        kept = (one for one in state.troubles if one.trigger not in OF_THE_PROCESS)
        self._open = {_key(one.trigger, one.subject): one for one in kept}
        self._rollbacks = list(state.rollbacks)
        self._told = dict(state.told)
        self._orders = state.orders

    def _rise(self, level: Level) -> None:
        if level >= self._own:
            self._own, self._quiet = level, 0
        if self._held:
            self._floor = self.level

    def _lasting(self) -> Level:
        """What the lasting troubles ask for."""
        if not self._open:
            return NONE
        asked = (_level(one, RULES[one.trigger]) for one in self._open.values() if RULES[one.trigger].lasts)
        return max(asked, default=NONE)

    def _go_back(self, epoch: int) -> tuple[int, str]:
        """How many moments to pass over, and why the run can't go back; empty if it can.

        One that has not come beyond an epoch that broke was not helped by going back: next time it goes
        back further.
        """
        window, most = self._config.rollback_window, self._config.rollbacks_max
        self._rollbacks = [one for one in self._rollbacks if epoch - one < window]
        if len(self._rollbacks) >= most:
            return 0, f"going back does not help: it was done {most} times within {window} epochs"
        back = sum(one >= epoch for one in self._rollbacks)
        self._rollbacks.append(epoch)
        return back, ""

    def _ordered(
        self,
        before: Level,
        reason: str,
        epoch: int,
        *,
        rollback: bool = False,
        moments_back: int = 0,
        checkpoint: bool = False,
        news: bool = False,
    ) -> Ordered:
        if self.level is not before:
            self._reason, self._since = reason, epoch
        return Ordered(self.level, before, reason, epoch, rollback, moments_back, checkpoint, news)


def trouble_of(error: BaseException, epoch: int) -> Trouble | None:
    """The trouble that an error in training is; None if it is none that one could go back from."""
    return Trouble(error.kind, str(error), epoch) if isinstance(error, TrainingDiverged) else None


def _key(trigger: Trigger, subject: str) -> str:
    return f"{trigger}/{subject}"


def _level(trouble: Trouble, rule: Rule) -> Level:
    return trouble.level if trouble.trigger is Trigger.OPERATOR else rule.level
