"""What is prepared beside training: the next probe, and everyone's half of the next moment.

boundary of epoch n ─▶ survey, and what everyone remembers ─┐
end of epoch n + 1  ─▶ what the trainer goes on from ───────┴─▶ the moment of epoch n + 1
"""

from collections.abc import Awaitable

import msgspec

from actors.deciding import ask_survey, surveyed
from actors.errands import Errands
from actors.minds import Answers, Remembered, ask_memories, remember, remembered
from actors.runtime import ActorRef
from actors.workplace import Prepared, Workplace
from contracts.growth import ProbePlan
from esper.boundary import Boundary
from esper.moment import Memories, Moment
from esper.tolaria.snapshot import Snapshot


class Preparations:
    """One run's preparations; each boundary's take the place of the last one's."""

    def __init__(self, at: Workplace, errands: Errands, tolaria: ActorRef[Prepared]) -> None:
        """`tolaria` is told what was prepared."""
        self._at = at
        self._errands = errands
        self._tolaria = tolaria
        self._first = self._prepared = Prepared(0, None, None)
        """The first is what everyone remembered before the first epoch."""
        self._probe: ProbePlan | None = None
        self._life = 0
        """Rollbacks so far."""
        self._came_back = False

    async def begin(self, start: Moment | None) -> None:
        """Have everyone remember how the run begins, or from where it goes on."""
        if start is None or not start.epoch:
            self._first = Prepared(0, None, await remember(self._at.minds))
        if start is not None:
            self._probe = start.memories.probe
            self._prepared = Prepared(max(0, start.epoch - 1), None, await remember(self._at.minds))

    def opened(self) -> None:
        """The first epoch is to be trained, perhaps once more."""
        if self._prepared.remembered is None:
            self._prepared = self._first

    def ask(self, boundary: Boundary, *, overdue: bool) -> None:
        """Ask for what the next turn and the next moment need; a controller that is overdue is spared."""
        # Asked together, so that everyone wakes once for it and for what it was told.
        plan = ask_survey(self._at.counsel, boundary.assembled) if not boundary.fallback else None
        memories = ask_memories(self._at.minds) if not overdue else None
        self._errands.run(self._hear(boundary.epoch, plan, memories, self._life))

    def take(self, prepared: Prepared) -> None:
        """It is done; of no use if the run has gone back since."""
        if prepared.life != self._life:
            return
        self._prepared = prepared
        if prepared.probe is not None:
            self._probe = prepared.probe
        if prepared.nonsense:
            self._at.witness.alert("probe_refused", prepared.nonsense)

    def take_probe(self) -> ProbePlan | None:
        """What the next turn is to measure, once."""
        probe, self._probe = self._probe, None
        return probe

    def keep(self, epoch: int, kept: Snapshot | None) -> None:
        """The moment of this boundary, if everyone has said what it remembers since the last one."""
        prepared, at = self._prepared, self._at
        mind = prepared.remembered
        if kept is None or mind is None or prepared.epoch != max(0, epoch - 1):
            return
        at.keeper.keep(Moment(epoch, kept, self._memories(mind)))
        if self._came_back:  # what lies on the disk may be of a future that did not happen
            at.keeper.write_newest()
        self._came_back = False

    def go_back(self, moment: Moment, mind: Remembered | None) -> None:
        """The run stands at an earlier moment; `mind` is what everyone remembers there."""
        self._life += 1
        self._came_back = True
        self._probe = moment.memories.probe
        self._prepared = Prepared(max(0, moment.epoch - 1), None, mind)

    def _memories(self, mind: Remembered) -> Memories:
        at = self._at
        memories = Memories(
            controller=mind.controller,
            # Asked when the plan was perhaps still being applied: how that went is known only now.
            engine=msgspec.structs.replace(mind.engine, breakers=at.breakers()),
            windows=mind.windows,
            witness=at.witness.memory(),
            emergency=at.emergencies.state(),
            isolations=at.alarms.isolations,
            probe=self._probe,
        )
        if at.stock is not None:
            memories = msgspec.structs.replace(memories, kernels=at.stock.facts())
        return memories

    async def _hear(
        self, epoch: int, plan: Awaitable[ProbePlan | None] | None, memories: Answers | None, life: int
    ) -> None:
        """What is to be measured before the next turn, and what everyone remembers by then."""
        probe, nonsense = await surveyed(plan) if plan is not None else (None, "")
        mind = await remembered(memories) if memories is not None else None
        await self._tolaria.tell(Prepared(epoch, probe, mind, nonsense, life))
