"""Grows where a race shows that it pays: the controller without anything learned.

    early in the run      which blueprint? ─▶ race ─▶ where? ─▶ race ─▶ germinate best site, second, best, …
    at a probation's end  fossilize what gains more than its rent, cull what does not; the site rests
    after a cull          once on a plateau, race again with what is left; two culls in a row end growth

Growing early beats waiting for a plateau: a graft needs time to pay, and forks of the small host make
the cheapest races. The plateau decides only over growth that comes after a failure.
"""

import math
from collections import deque
from statistics import fmean
from typing import TypeGuard

import msgspec

from contracts.config import GrowthConfig, HeuristicConfig
from contracts.growth import Candidate, GrowthView, ProbePlan, SeedView
from contracts.lifecycle import ACTIVE, SeedOperation, Stage
from contracts.messages import SystemState
from esper.karn.catalogue import Catalogue, UnknownBlueprint
from esper.report.words import gflop_above
from esper.tamiyo.action import Action, Advance, Cull, Germinate, Wait
from esper.tamiyo.foresight import on_offer
from esper.tamiyo.offer import offered
from esper.tamiyo.passage import next_step, patience
from esper.tamiyo.policy import BadMemory
from esper.tamiyo.race import (
    SHORT_LIST,
    best_kinds,
    enough_for_kinds,
    epoch_flops,
    fitted,
    kind_race,
    site_order,
    site_race,
)

CULLS_MAX = 2
"""Culls in a row after which the network is taken to be as large as it should be."""
TRIES_MAX = 3
"""Times that a race is asked for, or a germination, before growth gives up."""
ANSWER_EPOCHS = 5
"""Epochs after which a race that was asked for and not run is asked for again."""


class _Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of the heuristic that changes from one boundary to the next."""

    losses: tuple[float, ...]
    kinds: tuple[str, ...]
    sites: tuple[str, ...]
    awaited: str
    asked_at: int
    tries: int
    turn: int
    culls: int
    over: str
    acted_at: int
    tended: tuple[str, ...]


class Heuristic:
    """The heuristic policy; `catalogue` is what may be grown, the constants are in `config`."""

    name = "heuristic"
    version = "heuristic-1"
    reads_validation = (
        False  # it goes by training losses, and by counterfactual gains, which are booked apart
    )

    def __init__(self, catalogue: Catalogue, growth: GrowthConfig, config: HeuristicConfig) -> None:
        self._catalogue = catalogue
        self._growth = growth
        self._config = config
        self._losses: deque[float] = deque(maxlen=2 * config.plateau_epochs)
        self._kinds: tuple[str, ...] = ()
        self._sites: tuple[str, ...] = ()
        self._awaited = ""
        self._asked_at = 0
        self._tries = 0
        self._turn = 0
        self._culls = 0
        self._over = ""
        """Why nothing more is grown; empty while growth goes on."""
        self._acted_at = -1
        """Epoch at whose boundary it decided last; -1 if it never did."""
        self._tended: tuple[str, ...] = ()
        """Seeds whose fate it had left open then."""

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        """The next race, if one is due."""
        if self._wants_nothing(view) or view.active or self._sites or not self._due(view):
            return None
        if not any(site.free for site in view.sites):
            return None  # all of them rest: what pays there shows when one takes a seed again
        if self._awaited and view.epoch - self._asked_at < ANSWER_EPOCHS:
            return None
        self._tries += 1
        if self._tries > 2 * TRIES_MAX:
            self._over = "no race that was asked for came to a result"
            return None
        plan = self._race(view)
        if plan is None:
            self._over = self._obstacle(view)
            return None
        self._awaited, self._asked_at = plan.probe_id, view.epoch
        return plan

    def act(self, state: SystemState, view: GrowthView) -> Action:
        """Take what grows along, judge it at the end of its probation, or germinate the next."""
        self._losses.append(state.training_loss)
        self._read(view)
        self._catch_up(view)
        action = self._choose(view)
        ended = action.seed_id if _ends(action) else ""
        self._acted_at = view.epoch
        self._tended = tuple(one.record.seed_id for one in view.active if one.record.seed_id != ended)
        return action

    def _choose(self, view: GrowthView) -> Action:
        for seed in view.active:
            action = self._tend(seed, view)
            if action is not None:
                return action
        if self._wants_nothing(view) or not self._sites or view.active:
            return Wait(self._over)
        return self._germinate(view)

    def likely(self, view: GrowthView) -> tuple[Candidate, ...]:
        """The winner where it is due next; before the races are run, what may enter, the short list first.

        While a seed is on probation: what follows if it stays. What follows if it goes, new races decide.
        """
        if self._wants_nothing(view):
            return ()
        if self._sites:
            return self._next_turns(view)
        if view.active:
            return ()
        return on_offer(self._catalogue, self._growth, view, self._allotment(view), self._kinds or SHORT_LIST)

    def memory(self) -> bytes:
        """What the races have shown and how growth has gone."""
        return msgspec.msgpack.encode(
            _Memory(
                tuple(self._losses),
                self._kinds,
                self._sites,
                self._awaited,
                self._asked_at,
                self._tries,
                self._turn,
                self._culls,
                self._over,
                self._acted_at,
                self._tended,
            )
        )

    def take_over(self, memory: bytes) -> None:
        """Go on from what `memory` gave.

        Raises:
            BadMemory: it is no memory of the heuristic, or of one with another catalogue.
        """
        try:
            kept = msgspec.msgpack.decode(memory, type=_Memory)
            for kind in kept.kinds:
                self._catalogue.get(kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, UnknownBlueprint) as error:
            raise BadMemory(f"this is no memory of the heuristic: {error}") from error
        self._losses.clear()
        self._losses.extend(kept.losses)
        self._kinds, self._sites = kept.kinds, kept.sites
        self._awaited, self._asked_at = kept.awaited, kept.asked_at
        self._tries, self._turn, self._culls = kept.tries, kept.turn, kept.culls
        self._over = kept.over
        self._acted_at, self._tended = kept.acted_at, kept.tended

    def _next_turns(self, view: GrowthView) -> tuple[Candidate, ...]:
        """The winner at the site whose turn is next, then at the other of the best two."""
        kind, turn = self._catalogue.get(self._kinds[0]), self._turn + bool(view.active)
        names = dict.fromkeys(self._sites[one % min(2, len(self._sites))] for one in (turn, turn + 1))
        sites = {site.site.name: site.site for site in view.sites}
        placed = (fitted(kind, sites[name], self._allotment(view)) for name in names)
        return tuple(one for one in placed if one is not None)

    def _wants_nothing(self, view: GrowthView) -> bool:
        return (
            bool(self._over)
            or view.resting
            or view.conservative
            or view.progress > self._config.latest
            or self._left(view) < 1
        )

    def _left(self, view: GrowthView) -> int:
        """How many seeds are still to come."""
        return self._config.grafts - sum(len(site.fossils) for site in view.sites) - len(view.active)

    def _allotment(self, view: GrowthView) -> int:
        """Parameters that the next seed may have."""
        return min(view.seed_params_max, (view.max_params - view.params) // max(1, self._left(view)))

    def _due(self, view: GrowthView) -> bool:
        """Early in the run at once; after a failure not before the host has stopped learning by itself."""
        if self._culls:
            return self._on_plateau()
        return view.progress >= self._config.race_at

    def _on_plateau(self) -> bool:
        span = self._config.plateau_epochs
        if len(self._losses) < 2 * span:
            return False
        losses = list(self._losses)
        before, now = fmean(losses[:span]), fmean(losses[span:])
        return before - now < self._config.plateau_gain * before

    def _race(self, view: GrowthView) -> ProbePlan | None:
        if not self._kinds:
            return kind_race(view, self._catalogue, self._growth, self._config, self._allotment(view))
        blueprints = [self._catalogue.get(kind) for kind in self._kinds]
        return site_race(view, blueprints, self._catalogue, self._config, self._allotment(view))

    def _obstacle(self, view: GrowthView) -> str:
        """Why there can be no race."""
        room, left = max(0, view.max_params - view.params), self._left(view)
        left_for = f"the {room} parameters that are left for {left} {'seed' if left == 1 else 'seeds'}"
        free = [site.site for site in view.sites if site.free]
        allotment = self._allotment(view)
        if not offered(self._catalogue, free, self._growth, allotment, view):
            return f"no blueprint fits {left_for}"
        if self._kinds:
            return f"no blueprint that won its race fits {left_for}"
        enough = enough_for_kinds(view, self._catalogue, self._growth, self._config, allotment)
        if enough is None:
            return f"there are no two blueprints that fit {left_for}, so there is nothing to compare"
        length = _length(enough, view)
        return f"the budget is too small to find out what pays: {length} would do"

    def _read(self, view: GrowthView) -> None:
        """Take over what the race that was asked for has shown."""
        report = view.evidence
        if report is None or not self._awaited or report.probe_id != self._awaited:
            return
        self._awaited, self._tries = "", 0
        if not self._kinds:
            self._kinds = best_kinds(report, self._config.kind_finalists)
            if not self._kinds:
                self._over = "no blueprint did better than the ungrown network"
            return
        self._kinds = best_kinds(report, 1)
        self._sites = site_order(report, view, self._kinds, self._config.tie)
        if not self._sites:
            self._over = "at no site did a blueprint do better than the ungrown network"

    def _germinate(self, view: GrowthView) -> Action:
        """The best site and the second best in turn."""
        choice = self._sites[self._turn % min(2, len(self._sites))]
        site = next(one for one in view.sites if one.site.name == choice)
        if not site.free:
            return Wait(f"{choice} rests")
        candidate = fitted(self._catalogue.get(self._kinds[0]), site.site, self._allotment(view))
        if candidate is None or self._tries >= TRIES_MAX:
            self._over = (
                "the blueprint does not fit any more" if candidate is None else "germination was refused"
            )
            return Wait(self._over)
        self._tries += 1
        approved = candidate.blueprint_id in self._growth.approved
        return Germinate(candidate, self._growth.path, f"won its races; turn {self._turn + 1}", approved)

    def _tend(self, seed: SeedView, view: GrowthView) -> Action | None:
        """What one growing seed is due for."""
        record = seed.record
        if record.stage is Stage.GERMINATED:
            self._tries = 0
        step = next_step(seed, view.epoch)
        if step is None or step.operation is SeedOperation.FOSSILIZE:
            return self._judge(seed, step, view) if step is not None else None
        if view.epoch - record.stage_epoch >= patience(seed):
            return self._give_up(seed, f"no gate has let it out of {record.stage.name.lower()}")
        return step

    def _judge(self, seed: SeedView, step: Advance, view: GrowthView) -> Action:
        """At the end of a probation: keep what gains more than its rent."""
        if seed.gain is None or seed.figures.loss_without is None:
            return Wait("the seed's gain has not been measured yet")
        floor = self._growth.gates.gain_min + self._config.rent * seed.record.params / view.params
        earned = seed.gain / seed.figures.loss_without
        if earned >= floor:
            self._won()
            return step
        return self._give_up(seed, f"it gains {earned:.2%} of the loss and has to gain {floor:.2%}")

    def _give_up(self, seed: SeedView, reason: str) -> Action:
        """Cull a seed."""
        self._lost()
        return Cull(seed.record.seed_id, reason=reason)

    def _won(self) -> None:
        """A seed stays; the next one's turn."""
        self._turn, self._culls = self._turn + 1, 0

    def _lost(self) -> None:
        """A seed goes; what the races said does not hold any more."""
        self._turn, self._culls = 0, self._culls + 1
        self._kinds, self._sites = (), ()
        if self._culls >= CULLS_MAX:
            self._over = f"{CULLS_MAX} seeds in a row did not pay"

    def _catch_up(self, view: GrowthView) -> None:
        """Take over what others have decided at the boundaries since it was asked last."""
        if self._acted_at < 0 or view.epoch <= self._acted_at + 1:
            return
        there = {one.record.seed_id: one.record for one in view.seeds}
        new = [one.seed_id for one in there.values() if one.born_epoch == self._acted_at]
        if new:
            self._tries = 0  # it was germinated as asked
        for seed_id in dict.fromkeys((*self._tended, *new)):
            stage = there[seed_id].stage if seed_id in there else Stage.CULLED
            if stage is Stage.FOSSILIZED:
                self._won()
            elif stage not in ACTIVE:
                self._lost()


def _length(flops: int, view: GrowthView) -> str:
    """So long a run, in the unit in which the present one's length is given."""
    if view.budget_flops is not None:
        return f"{gflop_above(flops)} GFLOP"
    return f"{math.ceil(flops / epoch_flops(view))} epochs"


def _ends(action: Action) -> TypeGuard[Advance | Cull]:
    """It decides a seed's fate."""
    return isinstance(action, Cull) or (
        isinstance(action, Advance) and action.operation is SeedOperation.FOSSILIZE
    )
