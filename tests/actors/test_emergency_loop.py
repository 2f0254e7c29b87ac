"""Emergencies in a whole run with every actor, on a virtual clock, with a trainer that only keeps books."""

import asyncio
import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from actors import company as company_module
from actors.company import Company
from actors.nissa.journal import Journal
from actors.oona.priority import Priority
from actors.scribe import Gap, InlineScribe
from contracts import topics
from contracts.emergency import NONE, Level, Order, Trigger, Trouble
from contracts.growth import GrowthView
from contracts.messages import EmergencySignal, SystemState
from esper.journal.events import page
from esper.karn.catalogue import CATALOGUE
from esper.tamiyo.action import Action
from esper.tamiyo.baselines import GrowBlindly, NeverGrow
from tests.actors.fakes import FakeTrainer
from tests.actors.test_loop import CONFIG, alerts, blind, play

LATER_S = 0.33


def later(company: Company, act: Callable[[Company], object]) -> None:
    """Do something in the middle of an early epoch."""
    asyncio.get_running_loop().call_later(LATER_S, act, company)


def signal(level: Level, order: str = "") -> Callable[[Company], object]:
    def publish(company: Company) -> None:
        now_ns = company.alarm._clock.wall_ns()
        attributes = {"order": order} if order else {}
        message = EmergencySignal(level, "the room is on fire", "anna", now_ns, attributes=attributes)
        company.bus.publish_nowait(topics.EMERGENCY, message, priority=Priority.EMERGENCY)

    return publish


@pytest.mark.parametrize("seed", range(4))
def test_a_halt_on_the_bus_ends_the_run_with_its_report(seed: int) -> None:
    played = play(NeverGrow(), seed=seed, meddle=lambda company: later(company, signal(Level.HALT)))
    assert played.outcome.conclusion.halted == "anna: the room is on fire"
    assert played.outcome.conclusion.final is not None, "the network is judged as it is"
    assert played.trainer.stopped
    assert played.trainer.epoch < 30
    assert alerts(played, "halted")


def test_a_trouble_that_halts_ends_the_run() -> None:
    def see(company: Company) -> None:
        company.alarm.see(Trouble(Trigger.MEMORY_SPENT, "no memory is left", 3))

    played = play(NeverGrow(), meddle=lambda company: later(company, see))
    assert played.outcome.conclusion.halted == "no memory is left"
    assert played.trainer.epoch < 30


def test_a_journal_that_goes_on_after_a_full_disk_says_in_itself_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scribe = InlineScribe()
    journal = Journal(scribe=scribe)
    monkeypatch.setattr(company_module, "Journal", lambda: journal)

    def fill(_: Company) -> None:
        scribe.broken = "the disk is full"

    def make_room(_: Company) -> None:
        scribe.gap, scribe.broken = Gap(7, "the disk is full"), ""

    def meddle(company: Company) -> None:
        later(company, fill)
        asyncio.get_running_loop().call_later(3 * LATER_S, make_room, company)

    played = play(NeverGrow(), meddle=meddle)
    assert played.outcome.conclusion.final is not None
    lacks = "the journal is written again; journal.sqlite lacks 7 events: the disk is full"
    assert f"info: {lacks}" in played.spectator.events
    log = scribe.wait(lambda book: page(book, 0, 10_000)).entries
    at = [number for number, entry in enumerate(log) if lacks.encode() in entry.message]
    assert len(at) == 1
    assert 0 < at[0] < len(log) - 1, "the log goes on behind it"


def test_while_a_level_is_forced_nothing_is_germinated() -> None:
    def force(company: Company) -> None:
        company.alarm.steer(Order("force", Level.ELEVATED))

    undisturbed = play(blind(), FakeTrainer(epochs=60))
    assert undisturbed.stages
    played = play(blind(), FakeTrainer(epochs=60), meddle=force)
    assert not played.stages
    assert played.outcome.conclusion.final is not None
    assert played.trainer.epoch == 60, "training goes on"


class Reckless(GrowBlindly):
    """Looks neither at rest nor at level."""

    def act(self, state: SystemState, view: GrowthView) -> Action:
        return super().act(state, replace(view, resting=False))


def test_nor_does_a_policy_germinate_that_does_not_care() -> None:
    def force(company: Company) -> None:
        company.alarm.steer(Order("force", Level.ELEVATED))

    policy = Reckless(CATALOGUE, random.Random(0), CONFIG.growth, window=(0.05, 0.4))
    played = play(policy, FakeTrainer(epochs=60), meddle=force)
    assert not played.stages
    refused = [one.reason for one in played.outcome.witness.recorder.recorded.refused]
    assert refused
    assert all("growth rests" in reason for reason in refused)


def test_conservative_mode_ends_by_itself() -> None:
    levels: list[Level] = []

    def see(company: Company) -> None:
        company.alarm.see(Trouble(Trigger.FOREIGN_RATE, "a rate was changed", 3))
        emergencies, calm = company.emergencies, company.alarm.calm

        def watched(epoch: int) -> object:
            levels.append(emergencies.level)
            return calm(epoch)

        company.alarm.calm = watched  # type: ignore[method-assign,assignment]

    played = play(NeverGrow(), meddle=lambda company: later(company, see))
    assert played.outcome.conclusion.final is not None
    assert levels[0] is Level.CONSERVATIVE
    assert sorted(levels, reverse=True) == levels, "it falls, and does not rise again"
    assert levels[-1] is NONE


def test_that_memory_was_found_short_is_known_at_one_boundary_and_at_the_next_only_if_it_was_again() -> None:
    views: list[tuple[bool, bool]] = []

    class Looking(NeverGrow):
        def act(self, state: SystemState, view: GrowthView) -> Action:
            views.append((view.short_of_memory, view.conservative))
            return super().act(state, view)

    def short(company: Company) -> None:
        company.alarm.see(Trouble(Trigger.MEMORY, "there is too much", 3))

    def twice(company: Company) -> None:
        later(company, short)
        asyncio.get_running_loop().call_later(2 * LATER_S, short, company)

    played = play(Looking(), meddle=twice)
    assert [one for one, _ in views].count(True) == 2
    assert views.index((True, True)) < views.index((False, True)), "it is conservative until it is over"
    assert len(alerts(played, "memory")) == 1, "and told once"
