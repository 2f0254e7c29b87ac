"""The safe point: the one place where a plan becomes a change of the module and of the optimizer.

Every change is timed and counted by a guard. One that fails costs the seed that it is of, never the run: a
module that can't be grafted is not in place, a seed that can't be changed is set aside, and the figures of
both say so to the next boundary, which takes them out. A removal that fails is an error: nothing may stay
half in.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field

import msgspec
from torch.optim import Optimizer

from contracts.config import TrainConfig
from contracts.growth import Operation, SeedRecord
from contracts.lifecycle import ACTIVE, Stage
from esper.kasmina.graft import GraftError, Grafts
from esper.kasmina.guard import Guard, operation_of
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.plan import (
    Change,
    Fossilize,
    GraftPlan,
    Insert,
    Isolate,
    Note,
    Pause,
    Remove,
    Resume,
    SetAlpha,
)
from esper.kasmina.registry import HOST as THE_HOST
from esper.kasmina.registry import Foreign
from esper.tolaria.errors import PlanRefused
from esper.tolaria.growth import Growth, Seed
from esper.tolaria.optimizer import admit, dismiss, holds, join_host
from esper.tolaria.rates import HOST, Rates
from esper.tolaria.results import Applied
from esper.tolaria.roll import call_roll, mend
from esper.tolaria.trial import WRONG
from esper.tolaria.undo import restore_undo, take_undo

log = logging.getLogger(__name__)

LEARNING_ALONE = frozenset({Stage.TRAINING, Stage.SHADOWING})
"""Stages in which an isolated seed learns on the shadow path."""


@dataclass
class _Tally:
    """What a plan has come to so far."""

    added: int = 0
    removed: int = 0
    changed: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class SafePoint:
    """Applies plans. `shape` counts the grafts and removals so far, `version` all changes of a pass."""

    def __init__(
        self,
        grafts: Grafts,
        optimizer: Optimizer,
        rates: Rates,
        growth: Growth,
        isolation: IsolationMonitor,
        config: TrainConfig,
        guard: Guard,
    ) -> None:
        self._grafts = grafts
        self._optimizer = optimizer
        self._rates = rates
        self._growth = growth
        self._isolation = isolation
        self._config = config
        self.guard = guard
        self._learned = {
            p: group.get("name", "") for group in optimizer.param_groups for p in group["params"]
        }
        self.strangers: tuple[Foreign, ...] = ()
        """Foreign parameters that no seed in progress can have brought; nothing is grafted beside them."""
        self.shape = 0
        self.version = 0

    def apply(self, plan: GraftPlan) -> Applied:
        """Make the plan's changes, in order.

        A removal with rollback brings weights, buffers and optimizer state of what was there before the
        graft back to what they were then; the order of the data, the random streams, the step count
        and what was spent go on. It is refused when another seed has been grafted or removed since:
        the seed is removed all the same, and the host keeps its present weights. What failed is in the
        answer's `refused`.

        Raises:
            PlanRefused: a change names a seed that is not in place, or inserts one that is; nothing has
                changed then.
        """
        self._check(plan)
        tally = _Tally()
        for change in plan.changes:
            self._guarded(change, tally, plan.epoch)
        return Applied(
            plan_id=plan.plan_id,
            params_added=tally.added,
            params_removed=tally.removed,
            changed_host=tally.changed,
            notes=tuple(tally.notes),
            refused=tuple(tally.refused),
        )

    def _check(self, plan: GraftPlan) -> None:
        in_place = set(self._grafts.seed_ids())
        for change in plan.changes:
            seed_id = change.record.seed_id
            if isinstance(change, Insert):
                if seed_id in in_place or change.record.site not in self._growth.sites:
                    raise PlanRefused(
                        f"plan {plan.plan_id} can't insert {seed_id}: the id is taken or the site unknown"
                    )
                in_place.add(seed_id)
            elif not isinstance(change, Note):
                if isinstance(change, Remove) and self._was_refused(seed_id):
                    continue
                if seed_id not in in_place:
                    raise PlanRefused(
                        f"plan {plan.plan_id} changes {seed_id}, which is not in place; insert it first"
                    )
                if isinstance(change, Remove):
                    in_place.remove(seed_id)

    def _guarded(self, change: Change, tally: _Tally, epoch: int) -> None:
        """Make one change, timed; what becomes of one that fails is in the module's docstring."""
        operation, seed_id = operation_of(change), change.record.seed_id
        if isinstance(change, Note) or operation is None:
            self._growth.note(change.record)
            return
        if not isinstance(change, Insert | Remove) and seed_id not in self._grafts.seed_ids():
            return  # it was refused a moment ago
        try:
            with self.guard.run(operation, epoch):
                self._change(change, tally, epoch)
        except WRONG as error:
            if isinstance(change, Remove | Fossilize):
                raise
            log.warning("%s of %s failed", operation, seed_id, exc_info=error)
            reason = str(error) or type(error).__name__
            if isinstance(change, Insert):
                self._keep_out(change.record, error)
                tally.refused.append(f"{seed_id} was not grafted: {reason}")
            else:
                self.set_aside(seed_id)
                tally.refused.append(f"{operation} of {seed_id} failed, and it was set aside: {reason}")

    def _keep_out(self, record: SeedRecord, error: Exception) -> None:
        """Leave nothing of a module that could not be grafted; the figures take its record out."""
        if record.seed_id in self._grafts.seed_ids():
            parameters = self._grafts.named_parameters(record.seed_id)
            self._grafts.remove(record.seed_id)
            dismiss(self._optimizer, parameters)
        seed = self._growth.note(record)
        seed.in_place = seed.live = seed.learns = False
        if isinstance(error, GraftError):
            seed.measured(foreign_parameters=1)
        else:
            seed.measured(finite=False)

    def _was_refused(self, seed_id: str) -> bool:
        """The engine knows it as a seed in progress, and its module was never grafted."""
        seed = self._growth.seeds.get(seed_id)
        return seed is not None and not seed.in_place and seed.record.stage in ACTIVE

    def _change(self, change: Change, tally: _Tally, epoch: int) -> None:
        match change:
            case Insert():
                tally.added += self._insert(change)
            case Remove():
                self._remove(change, tally, epoch)
            case SetAlpha(record=record, alpha=alpha):
                self._mix(record, alpha)
            case Isolate(record=record, learns=learns):
                self._isolate(record, learns)
            case Fossilize(record=record):
                self._fossilize(record)
            case Pause(record=record):
                self._pause(record)
            case Resume(record=record):
                self._resume(record)
            case Note(record=record):
                self._growth.note(record)

    def _insert(self, change: Insert) -> int:
        """Put a module in; the number of its parameters."""
        record = change.record
        with self.guard.copying():
            undo = take_undo(self._grafts.model, self._optimizer)
        self._grafts.insert(record.seed_id, record.site, change.module)
        parameters = self._grafts.named_parameters(record.seed_id)
        admit(self._optimizer, record.seed_id, parameters, self._rates.of(HOST))
        self.shape += 1
        seed = self._growth.note(record)
        seed.in_place, seed.undo, seed.undo_shape = True, undo, self.shape
        return sum(parameter.numel() for _, parameter in parameters)

    def _mix(self, record: SeedRecord, alpha: float) -> None:
        """Let the seed's output count; its rate warms up from when it first learns."""
        seed = self._growth.note(record)
        self._grafts.set_alpha(record.seed_id, alpha)
        if not seed.live:
            self.version += 1
            seed.forget_gain()
        seed.live, seed.learns = True, False
        self._pace(seed)

    def _isolate(self, record: SeedRecord, learns: bool) -> None:
        seed = self._growth.note(record)
        self._grafts.isolate(record.seed_id)
        if seed.live:
            self.version += 1
            seed.forget_gain()
        seed.live, seed.learns = False, learns
        if learns:
            self._pace(seed)

    def _pause(self, record: SeedRecord) -> None:
        """It learns nothing; a live one goes on contributing, passed over by the optimizer."""
        seed = self._growth.note(record)
        self._rates.hold(record.seed_id, held=True)
        seed.learns = False
        if seed.live:
            self._grafts.hold(record.seed_id)
            self.version += 1

    def _resume(self, record: SeedRecord) -> None:
        seed = self._growth.note(record)
        self._rates.hold(record.seed_id, held=False)
        seed.learns = not seed.live and record.stage in LEARNING_ALONE
        if seed.live:
            self._grafts.release(record.seed_id)
            self.version += 1

    def set_aside(self, seed_id: str) -> None:
        """Take a seed that broke something out of the forward pass; its figures say that it is not sound.

        Its record stays as it is: the next boundary takes it out for good.
        """
        self._stand_aside(self._growth.seeds[seed_id]).measured(finite=False)

    def _stand_aside(self, seed: Seed) -> Seed:
        self._grafts.isolate(seed.record.seed_id)
        seed.live = seed.learns = False
        seed.forget_gain()
        self.version += 1
        return seed

    def look(self) -> tuple[Foreign, ...]:
        """See that the network and the optimizer hold the registered parameters, and no other.

        A foreign parameter in a seed's module is that seed's doing; one in the host may be any seed's in
        progress. Whoever may be at fault is set aside, and the next boundary takes it out; the host and the
        optimizer are as before. Where no seed is in progress the finding stays in `strangers`.
        """
        found = (*self._grafts.registry.foreign(), *call_roll(self._optimizer, self._grafts, self._learned))
        if not found:
            self.strangers = ()
            return ()
        suspects = {seed.record.seed_id: seed for seed in self._growth.open_seeds()}
        counts = Counter[str]()
        for stranger in found:
            counts.update(
                list(suspects) if stranger.owner == THE_HOST else {stranger.owner} & suspects.keys()
            )
        for seed_id, count in counts.items():
            if suspects[seed_id].figures.foreign_parameters < count:
                log.warning("%s is set aside: %s", seed_id, ", ".join(map(str, found)))
                self._stand_aside(suspects[seed_id]).measured(foreign_parameters=count)
        if suspects:
            self._grafts.registry.mend()
            mend(self._optimizer, self._grafts, self._learned)
        elif found != self.strangers:
            log.warning("foreign parameters: %s", ", ".join(map(str, found)))
        self.strangers = () if suspects else found
        return found

    def _pace(self, seed: Seed) -> None:
        if not seed.paced:
            seed.paced = True
            self._rates.admit(seed.record.seed_id, self._config.seed_rate, self._config.seed_warmup_steps)

    def _fossilize(self, record: SeedRecord) -> None:
        seed = self._growth.note(record)
        seed.undo = None
        seed.live, seed.learns = True, False
        join_host(self._optimizer, record.seed_id)
        self._rates.dismiss(record.seed_id)

    def _remove(self, change: Remove, tally: _Tally, epoch: int) -> None:
        record = change.record
        if self._was_refused(record.seed_id):
            self._growth.note(record).measured(cleared=self._grafts.cleared(record.seed_id))
            return
        parameters = self._grafts.named_parameters(record.seed_id)
        seed = self._growth.note(record)
        self._grafts.remove(record.seed_id)
        dismiss(self._optimizer, parameters)
        self._rates.dismiss(record.seed_id)
        self._isolation.forget(record.seed_id)
        tally.removed += sum(parameter.numel() for _, parameter in parameters)
        if change.rollback:
            self._roll_back(seed, tally, epoch)
        seed.in_place = seed.live = seed.learns = seed.paced = False
        seed.undo = None
        seed.measured(cleared=self._grafts.cleared(record.seed_id) and not holds(self._optimizer, parameters))
        self.shape += 1
        self.version += 1

    def _roll_back(self, seed: Seed, tally: _Tally, epoch: int) -> None:
        seed_id, undo = seed.record.seed_id, seed.undo
        why = self.guard.refusal(Operation.ROLLBACK, epoch)
        if undo is None or seed.undo_shape != self.shape:
            why = "another seed has been grafted or removed since"
        if why or undo is None:
            seed.record = msgspec.structs.replace(seed.record, rolled_back=False)
            tally.refused.append(
                f"{seed_id} was removed without rollback: {why}; the host keeps its present weights"
            )
            return
        with self.guard.run(Operation.ROLLBACK, epoch):
            tally.changed = restore_undo(self._grafts.model, self._optimizer, undo)
        for other in self._grafts.live_ids():  # the copy held their alpha as it was then
            self._grafts.set_alpha(other, self._grafts.alpha(other))
        tally.notes.append(f"the host is rolled back to before {seed_id} was grafted")
