"""The steps of an epoch, if need be again: once more with everyone, then without the seeds that break them.

    breaks ─▶ again with everyone ─ goes well ─▶ nobody's fault: told, and nothing is lost but the time
                     └ breaks again ─▶ without the youngest ─▶ without the next alone ─▶ … ─▶ without all

A second try costs the steps up to the break once more, and the broken step with them; they stay booked. Where
the length is in epochs its numbers are then those of an epoch that never broke, bit for bit; where it is in
FLOPs the run has as many fewer left.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from esper.tolaria.blame import attempts, may_be_a_seeds
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.keeping import keep, restore
from esper.tolaria.loop import Crew, Trained
from esper.tolaria.machine import Machine
from esper.tolaria.results import SetAside
from esper.tolaria.snapshot import Position, Snapshot
from esper.tolaria.trial import WRONG

log = logging.getLogger(__name__)

RESCUES_MAX = 8
"""Times in a run that an epoch is trained again; then what breaks one breaks the turn, as without a seed."""
SECOND_TRIES = RESCUES_MAX // 2
"""So many of the first of them may be with everyone: a seed that breaks now and then is set aside at last."""


@dataclass
class Steps:
    """One epoch's steps from `at` on, which moves with them; `aside` are the seeds out in the end.

    `tried_again` says what broke once and was gone when everyone tried again; empty if nothing did.
    """

    machine: Machine
    at: Position
    aside: tuple[SetAside, ...] = ()
    tried_again: str = ""

    def train(self) -> tuple[Crew, Trained]:
        """Take the steps. While seeds are live whose fate is undecided, an epoch that they may have broken is
        trained again from its beginning, with everyone first and then without them, one attempt after the
        other.

        Raises:
            TrainingDiverged, and what else a step raised: nothing of it was a seed's doing, or no attempt
                helped.
        """
        machine = self.machine
        growth, grafts, crew = machine.parts.growth, machine.parts.grafts, machine.crew()
        suspects = [seed_id for seed_id in grafts.live_ids() if growth.seeds[seed_id].open]
        if not suspects:
            return crew, self._take(crew)
        here, first = keep(machine, self.at), self.at.step
        without = attempts(suspects, second_try=self.at.rescues < SECOND_TRIES)
        while True:
            try:
                trained = self._take(crew)
            except (TrainingDiverged, *WRONG) as error:
                out = next(without, None) if self._may_be_rescued(error, suspects) else None
                if out is None:
                    raise
                self._note(error, out)
            else:
                self.tried_again = "" if self.aside or machine.loop.stop_requested else self.tried_again
                return crew, trained
            self._go_back(here, out)
            self.at = replace(self.at, step=first, rescues=self.at.rescues + 1)
            crew = machine.crew()

    def _note(self, error: Exception, out: Sequence[str]) -> None:
        """What has broken the epoch, and who is to be out of it now."""
        reason = str(error) or type(error).__name__
        how = f"without {', '.join(out)}" if out else "with everyone"
        log.warning("the epoch is trained again %s", how, exc_info=error)
        self.tried_again = f"the epoch was tried again with everyone, and did not break again: {reason}"
        self.aside = tuple(SetAside(seed_id, self.at.step, reason) for seed_id in out)

    def _may_be_rescued(self, error: Exception, suspects: Sequence[str]) -> bool:
        modules = [self.machine.parts.grafts.module(seed_id) for seed_id in suspects]
        return self.at.rescues < RESCUES_MAX and may_be_a_seeds(error, modules)

    def _go_back(self, here: Snapshot, out: Sequence[str]) -> None:
        """To the epoch's beginning, without these seeds."""
        restore(self.machine, here, behind_break=False)
        for seed_id in out:
            self.machine.safe_point.set_aside(seed_id)

    def _take(self, crew: Crew) -> Trained:
        """The steps as far as they go, booked; one that broke has been paid for, and does not count."""
        machine, first, epoch = self.machine, self.at.step, self.at.epoch
        steps, pace = machine.purse.steps(epoch), machine.purse.pace(epoch)
        try:
            with machine.parts.stream.in_place():
                trained = machine.loop.run(crew, first, steps, pace)
        except TrainingDiverged as diverged:
            self._book(diverged.step - first, broken=int(not diverged.taken))
            raise
        except WRONG:
            self._book(machine.loop.broken_at - first, broken=1)
            raise
        self._book(trained.steps)
        return trained

    def _book(self, steps: int, broken: int = 0) -> None:
        self.at = replace(self.at, step=self.at.step + steps)
        self.machine.purse.book_steps(steps + broken)
