"""A run whose boundaries are slow grows with caution; one that only takes long to copy itself goes on."""

from dataclasses import dataclass

import pytest

from actors.deciding import Counsel, adapt
from contracts.config import Config
from contracts.emergency import Trigger
from contracts.messages import AdaptationCommand
from contracts.report import BoundaryFacts
from esper.kasmina.plan import GraftPlan, Verdict
from esper.tamiyo.baselines import NeverGrow
from esper.tolaria.results import Applied, Assembled
from tests.actors.fakes import FakeSnapshot, FakeTrainer, VirtualLane
from tests.actors.test_loop import Played, alerts, blind, play

EPOCHS = 30
SLOW_S = 1.2
LANE_S = 0.001
"""A real lane begins at once: what it takes is no part of what is slow here."""
CONFIG = Config()


@dataclass
class Slow(FakeTrainer):
    """One of its parts of a boundary takes `SLOW_S`."""

    part: str = ""
    spent_s: float = 0.0

    def keep(self, restored: FakeSnapshot | None = None) -> FakeSnapshot:
        self._spend("keep")
        return super().keep(restored)

    def assemble(self) -> Assembled:
        self._spend("assemble")
        return super().assemble()

    def apply(self, plan: GraftPlan) -> Applied:
        self._spend("apply")
        return super().apply(plan)

    def _spend(self, part: str) -> None:
        if part == self.part:
            self.spent_s += SLOW_S


def played(part: str) -> Played:
    slow = Slow(epochs=EPOCHS, part=part)
    lane = VirtualLane(LANE_S)
    return play(NeverGrow(), slow, config=CONFIG, lane=lane, spent_s=lambda: slow.spent_s)


def times(run: Played) -> list[BoundaryFacts]:
    epochs = run.outcome.witness.recorder.recorded.epochs
    return [one.boundary_ms for one in epochs if one.boundary_ms is not None]


def conservative(run: Played) -> list[str]:
    return alerts(run, Trigger.BOUNDARIES_SLOW.value)


def test_a_copy_that_takes_long_is_told_and_is_no_emergency() -> None:
    run = played("keep")
    assert len(times(run)) == EPOCHS - 1
    assert conservative(run) == alerts(run, Trigger.BOUNDARY_SLOW.value) == []
    for took in times(run):
        assert took.keep == pytest.approx(SLOW_S * 1e3)
        assert took.total == pytest.approx(took.keep + took.assemble + took.decide + took.apply)
    over = alerts(run, "boundary_over_budget")
    assert len(over) == EPOCHS - 1
    assert "1200.0 of them to copy the run" in over[0]


def test_the_engine_has_what_is_left_of_the_budget_behind_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    gone_s: list[float] = []

    async def noting(
        counsel: Counsel, command: AdaptationCommand, assembled: Assembled, since: float
    ) -> tuple[Verdict | None, str]:
        gone_s.append(counsel.now() - since)
        return await adapt(counsel, command, assembled, since)

    monkeypatch.setattr("actors.boundary.adapt", noting)
    run = played("keep")
    assert len(gone_s) == len(times(run))
    assert max(gone_s) < CONFIG.budgets.epoch_boundary_ms / 1e3


@pytest.mark.parametrize("part", ["assemble", "apply"])
def test_a_boundary_that_is_slow_otherwise_ends_in_conservative_growth(part: str) -> None:
    run = played(part)
    assert all(getattr(took, part) == pytest.approx(SLOW_S * 1e3) for took in times(run))
    assert all(took.keep == 0.0 for took in times(run))
    assert len(conservative(run)) == 1
    assert "12 boundaries running took longer than 18 ms" in conservative(run)[0]


def test_growth_goes_on_as_if_the_copy_took_no_time() -> None:
    def grown(part: str) -> list[tuple[str, str, int]]:
        slow = Slow(epochs=EPOCHS, part=part)
        lane = VirtualLane(LANE_S)
        return play(blind(), slow, config=CONFIG, lane=lane, spent_s=lambda: slow.spent_s).stages

    assert grown("keep") == grown("")
    assert len(grown("")) > 3
