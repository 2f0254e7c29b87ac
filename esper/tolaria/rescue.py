"""The steps of an epoch, if need be again and again, without the seeds that break them."""

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
"""Times in a run that an epoch is trained again without a seed that broke it; then the run ends as broken."""


@dataclass
class Steps:
    """One epoch's steps from `at` on, which moves with them; `aside` are the seeds out in the end."""

    machine: Machine
    at: Position
    aside: tuple[SetAside, ...] = ()

    def train(self) -> tuple[Crew, Trained]:
        """Take the steps. While seeds are live whose fate is undecided, an epoch that they may have broken is
        trained again from its beginning without them, one attempt after the other.

        Raises:
            TrainingDiverged, and what else a step raised: nothing of it was a seed's doing, or no attempt
                helped.
        """
        machine = self.machine
        growth, grafts, crew = machine.parts.growth, machine.parts.grafts, machine.crew()
        suspects = [seed_id for seed_id in grafts.live_ids() if growth.seeds[seed_id].open]
        if not suspects:
            return crew, self._take(crew)
        here, first, without = keep(machine, self.at), self.at.step, attempts(suspects)
        while True:
            try:
                return crew, self._take(crew)
            except (TrainingDiverged, *WRONG) as error:
                out = next(without, None) if self._may_be_rescued(error, suspects) else None
                if out is None:
                    raise
                log.warning("the epoch is trained again without %s", ", ".join(out), exc_info=error)
                reason = str(error) or type(error).__name__
                self.aside = tuple(SetAside(seed_id, self.at.step, reason) for seed_id in out)
                self._go_back(here, out)
                self.at = replace(self.at, step=first, rescues=self.at.rescues + 1)
                crew = machine.crew()

    def _may_be_rescued(self, error: Exception, suspects: Sequence[str]) -> bool:
        modules = [self.machine.parts.grafts.module(seed_id) for seed_id in suspects]
        return self.at.rescues < RESCUES_MAX and may_be_a_seeds(error, modules)

    def _go_back(self, here: Snapshot, out: Sequence[str]) -> None:
        """To the epoch's beginning, without these seeds."""
        restore(self.machine, here, behind_break=False)
        for seed_id in out:
            self.machine.safe_point.set_aside(seed_id)

    def _take(self, crew: Crew) -> Trained:
        """The steps as far as they go, booked."""
        machine, first, epoch = self.machine, self.at.step, self.at.epoch
        steps, pace = machine.purse.steps(epoch), machine.purse.pace(epoch)
        try:
            with machine.parts.stream.in_place():
                trained = machine.loop.run(crew, first, steps, pace)
        except TrainingDiverged as diverged:
            self._book(diverged.step - first)
            raise
        except WRONG:
            self._book(machine.loop.broken_at - first)
            raise
        self._book(trained.steps)
        return trained

    def _book(self, steps: int) -> None:
        self.at = replace(self.at, step=self.at.step + steps)
        self.machine.purse.book_steps(steps)
