"""Emergencies in a whole run with every actor, on a virtual clock, with a trainer that only keeps books."""

import asyncio
from collections.abc import Callable

import pytest

from actors.company import Company
from actors.oona.priority import Priority
from contracts import topics
from contracts.emergency import NONE, Level, Order, Trigger, Trouble
from contracts.messages import EmergencySignal
from esper.tamiyo.baselines import NeverGrow
from tests.actors.fakes import FakeTrainer
from tests.actors.test_loop import alerts, blind, play

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


def test_while_a_level_is_forced_nothing_is_germinated() -> None:
    def force(company: Company) -> None:
        company.alarm.steer(Order("force", Level.ELEVATED))

    undisturbed = play(blind(), FakeTrainer(epochs=60))
    assert undisturbed.stages
    played = play(blind(), FakeTrainer(epochs=60), meddle=force)
    assert not played.stages
    assert played.outcome.conclusion.final is not None
    assert played.trainer.epoch == 60, "training goes on"


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
