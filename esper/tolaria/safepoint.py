"""The safe point: the one place where a plan becomes a change of the module and of the optimizer."""

from dataclasses import dataclass, field

import msgspec
from torch.optim import Optimizer

from contracts.config import TrainConfig
from contracts.growth import SeedRecord
from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.plan import Change, Fossilize, GraftPlan, Insert, Isolate, Note, Remove, SetAlpha
from esper.tolaria.errors import PlanRefused
from esper.tolaria.growth import Growth, Seed
from esper.tolaria.optimizer import admit, dismiss, holds, join_host
from esper.tolaria.rates import HOST, Rates
from esper.tolaria.results import Applied
from esper.tolaria.undo import restore_undo, take_undo


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
    ) -> None:
        self._grafts = grafts
        self._optimizer = optimizer
        self._rates = rates
        self._growth = growth
        self._isolation = isolation
        self._config = config
        self.shape = 0
        self.version = 0

    def apply(self, plan: GraftPlan) -> Applied:
        """Make the plan's changes, in order.

        A removal with rollback brings weights, buffers and optimizer state of what was there before the
        graft back to what they were then; the order of the data, the random streams, the step count
        and what was spent go on. It is refused when another seed has been grafted or removed since:
        the seed is removed all the same, and the host keeps its present weights.

        Raises:
            PlanRefused: a change names a seed that is not in place, or inserts one that is; nothing has
                changed then.
        """
        self._check(plan)
        tally = _Tally()
        for change in plan.changes:
            self._change(change, tally)
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
                if seed_id not in in_place:
                    raise PlanRefused(
                        f"plan {plan.plan_id} changes {seed_id}, which is not in place; insert it first"
                    )
                if isinstance(change, Remove):
                    in_place.remove(seed_id)

    def _change(self, change: Change, tally: _Tally) -> None:
        match change:
            case Insert():
                tally.added += self._insert(change)
            case Remove():
                self._remove(change, tally)
            case SetAlpha(record=record, alpha=alpha):
                self._mix(record, alpha)
            case Isolate(record=record, learns=learns):
                self._isolate(record, learns)
            case Fossilize(record=record):
                self._fossilize(record)
            case Note(record=record):
                self._growth.note(record)

    def _insert(self, change: Insert) -> int:
        """Put a module in; the number of its parameters."""
        record = change.record
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

    def set_aside(self, seed_id: str) -> None:
        """Take a live seed that broke a step out of the forward pass; its figures say that it is not sound.

        Its record stays as it is: the next boundary takes it out for good.
        """
        seed = self._growth.seeds[seed_id]
        self._grafts.isolate(seed_id)
        seed.live = seed.learns = False
        seed.forget_gain()
        seed.measured(finite=False)
        self.version += 1

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

    def _remove(self, change: Remove, tally: _Tally) -> None:
        record = change.record
        parameters = self._grafts.named_parameters(record.seed_id)
        seed = self._growth.note(record)
        self._grafts.remove(record.seed_id)
        dismiss(self._optimizer, parameters)
        self._rates.dismiss(record.seed_id)
        self._isolation.forget(record.seed_id)
        tally.removed += sum(parameter.numel() for _, parameter in parameters)
        if change.rollback:
            self._roll_back(seed, tally)
        seed.in_place = seed.live = seed.learns = seed.paced = False
        seed.undo = None
        seed.measured(cleared=self._grafts.cleared(record.seed_id) and not holds(self._optimizer, parameters))
        self.shape += 1
        self.version += 1

    def _roll_back(self, seed: Seed, tally: _Tally) -> None:
        seed_id = seed.record.seed_id
        if seed.undo is None or seed.undo_shape != self.shape:
            seed.record = msgspec.structs.replace(seed.record, rolled_back=False)
            tally.refused.append(
                f"{seed_id} was removed without rollback: another seed has been grafted or removed since; "
                "the host keeps its present weights"
            )
            return
        tally.changed = restore_undo(self._grafts.model, self._optimizer, seed.undo)
        for other in self._grafts.live_ids():  # the copy held their alpha as it was then
            self._grafts.set_alpha(other, self._grafts.alpha(other))
        tally.notes.append(f"the host is rolled back to before {seed_id} was grafted")
