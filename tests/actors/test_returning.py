"""Claims about going back: turns that break, moments that are lost, who goes first; and taking a run up."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
import pytest

from actors.company import Company, Outcome
from actors.keeping import Desk, Keeper
from actors.play import Play
from actors.runtime.simulation import run_simulated
from contracts import topics
from contracts.config import CheckpointConfig, Config, EmergencyConfig, GrowthConfig
from contracts.growth import Path
from contracts.lifecycle import Stage
from contracts.messages import FieldReportOutcome
from contracts.report import ResumeFacts
from esper.breaker import BreakerMemory
from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.store import Saved
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.engine import Engine, EngineState
from esper.moment import Moment
from esper.tamiyo.baselines import GrowBlindly, NeverGrow
from esper.tamiyo.controller import Controller, ControllerMemory
from esper.tamiyo.policy import Policy
from tests.actors.fakes import SITES, FakeTrainer, VirtualLane
from tests.actors.staging import fake_play, surroundings, way_of

CONFIG = Config(
    growth=GrowthConfig(path=Path(0, 0, 0, 3), embargo_epochs=2, max_params=1300),
    emergency=EmergencyConfig(slow_boundaries=1_000_000),
    checkpoint=CheckpointConfig(every_s=0.0),
)


def blind() -> GrowBlindly:
    return GrowBlindly(CATALOGUE, random.Random(3), CONFIG.growth)


@dataclass
class World:
    """One simulated run, its trainer and its keeper."""

    outcome: Outcome
    trainer: FakeTrainer
    keeper: Keeper
    engine: Engine
    order: list[str] = field(default_factory=list)

    @property
    def epochs(self) -> list[int]:
        return [one.epoch for one in self.outcome.witness.recorder.recorded.epochs]

    @property
    def way(self) -> list[tuple[int, int, str]]:
        return way_of(self.outcome)

    @property
    def alerts(self) -> list[str]:
        return [one.name for one in self.outcome.witness.recorder.recorded.alerts]


class FakeStore:
    """Keeps what it is given, in memory, unless it fails."""

    def __init__(self, failing: tuple[int, ...] = ()) -> None:
        self.failing = failing
        self.saves = 0
        self.kept: list[int] = []

    def save(self, epoch: int) -> Saved:
        self.saves += 1
        if self.saves in self.failing:
            raise CheckpointError("no space left on device")
        self.kept.append(epoch)
        return Saved(self.saves, None, 1)  # type: ignore[arg-type]


def world(
    trainer: FakeTrainer,
    policy: Policy | None = None,
    *,
    config: Config = CONFIG,
    start: Moment | None = None,
    before: Sequence[Moment] = (),
    at: dict[float, str] | None = None,
    calls: dict[float, Callable[[Company], None]] | None = None,
    seed: int = 0,
    store: FakeStore | None = None,
) -> World:
    """Play a run to its end; `at` says what is called on the company after how many virtual seconds."""

    async def main() -> World:
        order = list[str]()
        play = _noted(fake_play(policy or NeverGrow(), trainer, config, seed), order)
        if start is not None:
            play = _from_there(play, start, before)
            order.clear()
        trainer.order = order
        if store is not None:
            desk = Desk(cast(Any, store), VirtualLane(0.2), cast(Any, None), cast(Any, None))
            play = replace(play, desk=desk)
        around = surroundings(seed)
        company = Company(play, around)
        _call_later(company, at or {}, calls or {})
        outcome = await company.perform()
        await around.bus.close()
        return World(outcome, trainer, company.keeper, play.engine, order)

    return run_simulated(main, seed=seed)


def _noted(play: Play, order: list[str]) -> Play:
    """With an engine and a controller that say when they go back."""
    return replace(play, engine=_Noting(order), controller=_Recalled(play.controller.policy, order))


def _from_there(play: Play, start: Moment, before: Sequence[Moment]) -> Play:
    """It goes on from a moment, and may go back to those before."""
    play.engine.restore(start.memories.engine)
    play.controller.recall(start.memories.controller)
    play.observation.recall(start.memories.windows)
    return replace(play, start=start, before=lambda: before, resumed=ResumeFacts(start.epoch))


def _call_later(
    company: Company, at: Mapping[float, str], calls: Mapping[float, Callable[[Company], None]]
) -> None:
    loop = asyncio.get_running_loop()
    for when, what in at.items():
        reason = ("an operator says so",) if what != "keep_now" else ()
        loop.call_later(when, getattr(company, what), *reason)
    for when, call in calls.items():
        loop.call_later(when, call, company)


class _Noting(Engine):
    """Says when it goes back."""

    def __init__(self, order: list[str]) -> None:
        super().__init__(SITES, CONFIG.growth, CATALOGUE, 0)
        self._order = order

    def restore(self, state: EngineState) -> None:
        self._order.append("kasmina")
        super().restore(state)


class _Recalled(Controller):
    """Says when it goes back."""

    def __init__(self, policy: Policy, order: list[str]) -> None:
        super().__init__(policy, "fake")
        self._order = order

    def recall(self, memory: ControllerMemory) -> None:
        self._order.append("tamiyo")
        super().recall(memory)


def test_a_turn_that_breaks_is_gone_back_from_and_every_epoch_is_in_the_record_once() -> None:
    seen = world(FakeTrainer(epochs=30, diverges_at=[12]))
    assert seen.outcome.conclusion.halted == ""
    assert seen.outcome.conclusion.final is not None
    assert seen.way == [(12, 11, "fast")]
    assert seen.trainer.restored == [(11, True)]
    assert seen.epochs == list(range(1, 31))
    assert "rolled_back" in seen.alerts


def test_what_breaks_in_the_first_epoch_begins_anew_behind_the_batch_that_broke() -> None:
    seen = world(FakeTrainer(epochs=30, diverges_at=[1, 1]))
    assert seen.outcome.conclusion.halted == ""
    assert seen.way == [(1, 0, "fast"), (1, 0, "fast")]
    assert seen.trainer.restored == [(0, True), (0, True)]
    assert seen.epochs == list(range(1, 31))
    assert seen.order == ["tamiyo", "kasmina", "tolaria"] * 2
    assert "going back does not help" in world(FakeTrainer(diverges_at=[1] * 9)).outcome.conclusion.halted


def test_a_run_that_halts_in_its_first_epoch_is_taken_up_at_its_beginning() -> None:
    store = FakeStore()
    seen = world(FakeTrainer(epochs=8, fails_at=1), store=store)
    assert seen.outcome.conclusion.halted
    (start,) = seen.keeper.moments
    assert start.epoch == 0
    taken_up = world(FakeTrainer(epochs=8), start=start)
    assert taken_up.outcome.conclusion.halted == ""
    assert taken_up.epochs == list(range(1, 9))


def test_after_it_growth_is_conservative_until_boundaries_have_been_quiet() -> None:
    views: list[tuple[int, bool]] = []

    class Looking(NeverGrow):
        def act(self, state, view):  # type: ignore[no-untyped-def]
            views.append((view.epoch, view.resting))
            return super().act(state, view)

    world(FakeTrainer(epochs=40, diverges_at=[12]), Looking())
    resting = [epoch for epoch, rests in views if rests]
    assert resting
    assert min(resting) >= 11
    assert not views[-1][1], "it is over in the end"


def test_who_decides_goes_back_first_then_the_engine_then_the_trainer() -> None:
    seen = world(FakeTrainer(epochs=30, diverges_at=[12]))
    assert seen.order == ["tamiyo", "kasmina", "tolaria"]


def test_a_moment_that_is_lost_is_passed_over_for_the_one_before() -> None:
    seen = world(FakeTrainer(epochs=30, diverges_at=[12], lost=[11, 10]))
    assert seen.way == [(12, 9, "fast")]
    assert seen.epochs == list(range(1, 31))
    assert [moment.epoch for moment in seen.keeper.moments] == [26, 27, 28, 29, 30]


def test_without_a_way_back_the_run_halts_and_says_what_was_tried() -> None:
    seen = world(FakeTrainer(epochs=30, diverges_at=[12], lost=list(range(30))))
    assert "there is no way back" in seen.outcome.conclusion.halted
    assert "its snapshot is lost" in seen.outcome.conclusion.halted
    assert seen.outcome.conclusion.final is not None, "the network is judged as it is"
    assert seen.trainer.restored == []


def test_what_keeps_breaking_is_gone_back_from_further_and_then_halts() -> None:
    seen = world(FakeTrainer(epochs=30, diverges_at=[12] * 9))
    assert seen.way == [(12, 11, "fast"), (12, 10, "fast"), (12, 9, "fast")]
    assert "going back does not help" in seen.outcome.conclusion.halted


def test_what_keeps_breaking_after_a_resume_is_gone_back_from_further_too() -> None:
    config = replace_checkpoint(boundaries=100)
    whole = world(FakeTrainer(epochs=12), config=config)
    before, start = (one for one in whole.keeper.moments if one.epoch in (10, 11))

    def resumed(*before: Moment) -> World:
        return world(FakeTrainer(epochs=20, diverges_at=[12, 12]), config=config, start=start, before=before)

    assert resumed(before).way == [(12, 11, "fast"), (12, 10, "fast")]
    assert resumed().way == [(12, 11, "fast"), (12, 11, "fast")], "it knows of no other"


def test_without_moments_in_memory_or_on_disk_a_break_halts_as_it_always_did() -> None:
    config = replace_checkpoint(boundaries=0, every_epochs=0)
    seen = world(FakeTrainer(epochs=30, diverges_at=[12]), config=config)
    assert "no boundary has been kept" in seen.outcome.conclusion.halted


def test_an_operator_goes_back_by_one_boundary() -> None:
    seen = world(FakeTrainer(epochs=30), at={0.5: "go_back"})
    ((epoch, to_epoch, kind),) = seen.way
    assert (to_epoch, kind) == (epoch - 1, "fast")
    assert seen.trainer.restored == [(to_epoch, False)]
    assert seen.epochs == list(range(1, 31))


def test_an_operator_is_told_that_the_boundary_before_is_not_kept() -> None:
    seen = world(FakeTrainer(epochs=30), at={0.5: "go_back"}, config=replace_checkpoint(boundaries=1))
    assert seen.way == []
    assert seen.trainer.restored == []
    assert seen.alerts.count("rollback_refused") == 1
    assert seen.epochs == list(range(1, 31))


def test_seeds_that_came_after_the_moment_are_gone_with_it() -> None:
    trainer = FakeTrainer(epochs=60, diverges_at=[20], lost=[19, 18, 17, 16])
    seen = world(trainer, blind())
    assert seen.way == [(20, 15, "fast")]
    there = {record.seed_id for record in seen.engine.records() if record.stage is Stage.FOSSILIZED}
    assert there == {one.seed_id for one in trainer.records.values() if one.stage is Stage.FOSSILIZED}
    assert len(there) == 3, "growth went on afterwards"


@pytest.mark.parametrize("epoch", [1, pytest.param(7, marks=pytest.mark.slow), 12, 23, 39])
@pytest.mark.parametrize("grows", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_that_is_taken_up_ends_like_one_that_was_not_broken_off(epoch: int, grows: bool) -> None:
    def policy() -> Policy:
        return blind() if grows else NeverGrow()

    config = replace_checkpoint(boundaries=100)
    whole = world(FakeTrainer(epochs=40), policy(), config=config)
    start = next(one for one in whole.keeper.moments if one.epoch == epoch)
    rest = world(FakeTrainer(epochs=40), policy(), config=config, start=start)
    one, other = (each.outcome.witness.recorder.recorded for each in (whole, rest))
    assert [replace_times(facts) for facts in one.epochs] == [replace_times(facts) for facts in other.epochs]
    assert (one.grafts, one.applied, one.refused) == (other.grafts, other.applied, other.refused)
    assert whole.engine.records() == rest.engine.records()
    assert [facts.epoch for facts in other.resumes] == [epoch]
    assert rest.trainer.restored == [(epoch, False)]


def test_the_newest_moment_is_written_while_training_goes_on_and_the_last_one_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = writing(monkeypatch)
    seen = world(FakeTrainer(epochs=30), store=store)
    assert store.kept[-1] == 30
    assert store.kept == sorted(set(store.kept))
    assert 5 < len(store.kept) < 30, "a writer that takes four epochs leaves moments out"
    assert seen.keeper.written == 30


def test_a_checkpoint_that_fails_is_told_costs_nothing_else_and_is_over_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = writing(monkeypatch, failing=(2, 3))
    seen = world(FakeTrainer(epochs=40), store=store)
    (told,) = [
        one for one in seen.outcome.witness.recorder.recorded.alerts if one.name == "checkpoint_failed"
    ]
    assert "no space left on device" in told.text
    assert told.cleared_epoch is not None
    assert seen.epochs == list(range(1, 41))
    assert store.kept[-1] == 40


@pytest.mark.parametrize(("every", "between_s", "fewest", "most"), [(10, 0.0, 3, 3), (1, 1.0, 2, 4)])
def test_checkpoints_come_as_often_as_configured(
    monkeypatch: pytest.MonkeyPatch, every: int, between_s: float, fewest: int, most: int
) -> None:
    store = writing(monkeypatch)
    config = replace_checkpoint(every_epochs=every, every_s=between_s)
    world(FakeTrainer(epochs=30), store=store, config=config)
    assert fewest <= len(store.kept) <= most


def test_an_operator_has_the_newest_moment_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = writing(monkeypatch)
    config = replace_checkpoint(every_s=1000.0)
    world(FakeTrainer(epochs=30), store=store, config=config, at={0.5: "keep_now"})
    assert len(store.kept) == 2, "that one, and the last"
    assert store.kept[0] < 15


def test_moments_in_memory_are_bounded_by_their_size_too() -> None:
    seen = world(FakeTrainer(epochs=30), config=replace_checkpoint(boundaries=10, memory_mb=3))
    assert [one.epoch for one in seen.keeper.moments] == [28, 29, 30]


def writing(monkeypatch: pytest.MonkeyPatch, failing: tuple[int, ...] = ()) -> FakeStore:
    """A store that is given epochs in place of moments."""
    monkeypatch.setattr("actors.keeping.to_checkpoint", lambda moment, about: moment.epoch)
    return FakeStore(failing)


def replace_checkpoint(**changes: object) -> Config:
    checkpoint = msgspec.structs.replace(CONFIG.checkpoint, **changes)
    return msgspec.structs.replace(CONFIG, checkpoint=checkpoint)


def replace_times(facts: object) -> object:
    return msgspec.structs.replace(facts, boundary_ms=None)


def test_a_moment_has_the_breakers_as_they_are_once_the_turn_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is asked while its plan is perhaps still being applied."""
    early, real = {"insert": BreakerMemory(2)}, Engine.state
    monkeypatch.setattr(Engine, "state", lambda self: msgspec.structs.replace(real(self), breakers=early))
    seen = world(FakeTrainer(epochs=5))
    assert [moment.memories.engine.breakers for moment in seen.keeper.moments] == [{}] * 5


def test_every_command_has_one_field_report_over_rollbacks() -> None:
    def go_back(company: Company) -> None:
        company.go_back("an operator says so")

    store = FakeStore()
    seen = world(FakeTrainer(epochs=40), blind(), calls={0.5: go_back, 0.9: go_back}, store=store)
    assert len(seen.way) == 2
    counted = seen.outcome.witness.counters.growth.field_reports
    commands = next(
        row
        for row in seen.outcome.bus.published
        if row.topic == topics.ADAPTATION_COMMAND and row.ledger.published
    )
    undone = sum(ordered_in - back_at for ordered_in, back_at, _ in seen.way)
    assert commands.ledger.published == 39 + undone
    assert sum(counted.values()) == commands.ledger.published
    assert counted[FieldReportOutcome.ABORTED] >= undone > 0
