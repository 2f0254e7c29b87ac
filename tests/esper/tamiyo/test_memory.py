"""What a controller, its policy and the windows remember, and that it goes on from there."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.config import Config, GrowthConfig, RunConfig
from contracts.control import Decided
from contracts.growth import GrowthView, ProbePlan
from contracts.messages import CommandType, SystemState
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.tamiyo.action import Action, Wait
from esper.tamiyo.baselines import GrowBlindly, NeverGrow
from esper.tamiyo.choice import make_policy
from esper.tamiyo.controller import Controller, ControllerMemory
from esper.tamiyo.heuristic import Heuristic
from esper.tamiyo.observation import Observation, ObservationMemory
from esper.tamiyo.policy import BadMemory, Remembers
from tests.esper.tamiyo.views import state, view

NAMES = ("none", "random", "heuristic")


def policy(name: str) -> NeverGrow | GrowBlindly | Heuristic:
    made = make_policy(msgspec.convert({"run": {"policy": name}}, Config), CATALOGUE)
    assert isinstance(made, NeverGrow | GrowBlindly | Heuristic)
    return made


def controller(name: str) -> Controller:
    return Controller(policy(name), "run")


def through_disk(memory: ControllerMemory) -> ControllerMemory:
    return msgspec.json.decode(msgspec.json.encode(memory), type=ControllerMemory)


def drive(of: Controller, epochs: range) -> list[object]:
    """What it says at these boundaries, of a run that is on no plateau and has the time to grow."""
    told: list[object] = []
    for epoch in epochs:
        facts, seen = state(epoch), view(epoch, progress=min(1.0, epoch / 40))
        told += [of.decide(facts, seen, epoch), of.survey(facts, seen)]
    return told


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 25))
def test_a_new_controller_goes_on_as_the_old_one_would_have(name: str, epochs: int) -> None:
    old, new = controller(name), controller(name)
    drive(old, range(epochs))
    memory = old.remember()
    new.recall(through_disk(memory))
    assert new.remember() == memory
    assert drive(new, range(epochs, 40)) == drive(old, range(epochs, 40))
    old.recall(memory)
    assert old.remember().memory == memory.memory


def test_blind_growth_and_the_heuristic_remember_and_who_never_grows_has_nothing_to() -> None:
    assert [isinstance(policy(name), Remembers) for name in NAMES] == [False, True, True]
    assert controller("none").remember().memory is None


def test_the_ids_of_commands_that_were_issued_are_not_used_again() -> None:
    one = controller("random")
    drive(one, range(3))
    memory = one.remember()
    drive(one, range(3, 6))
    one.recall(memory)
    assert one.decide(state(3), view(3), 0).command_id == "run-c7"


@pytest.mark.parametrize("name", ["random", "heuristic"])
@given(st.binary(max_size=40) | st.integers(0, 60))
def test_what_is_no_memory_is_refused_and_nothing_changes(name: str, harm: bytes | int) -> None:
    one = controller(name)
    drive(one, range(4))
    memory = one.remember()
    assert memory.memory is not None
    bad = harm if isinstance(harm, bytes) else memory.memory[:harm]
    with pytest.raises(BadMemory):
        one.recall(msgspec.structs.replace(memory, memory=bad))
    assert one.remember() == memory


def test_a_random_stream_that_could_not_be_drawn_from_is_refused() -> None:
    one = policy("random")
    assert isinstance(one, GrowBlindly)
    before = one.memory()
    table = msgspec.msgpack.decode(before)
    for words in ([0] * 624, [1 << 40] * 625, [-1] * 625, [0] * 624 + [700]):
        with pytest.raises(BadMemory):
            one.take_over(msgspec.msgpack.encode({**table, "words": words}))
        assert one.memory() == before


def test_the_heuristic_refuses_the_winners_of_another_catalogue() -> None:
    config = Config()
    old = Heuristic(CATALOGUE, config.growth, config.tamiyo.heuristic)
    table = msgspec.msgpack.decode(old.memory())
    memory = msgspec.msgpack.encode({**table, "kinds": ["BP003"]})
    old.take_over(memory)
    assert old.memory() == memory
    other = Heuristic(Catalogue(()), config.growth, config.tamiyo.heuristic)
    with pytest.raises(BadMemory, match="BP003"):
        other.take_over(memory)


def test_another_policys_memory_is_refused_and_its_command_ids_are_not_used_again() -> None:
    old, new = controller("random"), controller("heuristic")
    drive(old, range(5))
    fresh = new.remember().memory
    with pytest.raises(
        BadMemory, match=r"of the policy random \(random-1\); heuristic \(heuristic-1\) goes on"
    ):
        new.recall(old.remember())
    assert new.remember() == ControllerMemory("heuristic", "heuristic-1", 5, fresh)


def test_a_policy_that_was_not_remembered_is_told_so() -> None:
    one = controller("random")
    memory = msgspec.structs.replace(one.remember(), memory=None)
    with pytest.raises(BadMemory, match="nothing was remembered of random"):
        one.recall(memory)


class Forgetful:
    """A policy of a user's own, which does not remember."""

    name = version = "forgetful"
    reads_validation = False

    def __init__(self) -> None:
        self.calls = 0

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        self.calls += 1
        return Wait(str(self.calls))


def test_a_policy_that_does_not_remember_begins_anew_and_its_ids_go_on() -> None:
    old, new = Controller(Forgetful(), "run"), Controller(Forgetful(), "run")
    drive(old, range(4))
    new.recall(through_disk(old.remember()))
    command = new.decide(state(4), view(4), 0)
    assert (command.command_id, command.annotations["reason"]) == ("run-c5", "1")
    assert command.command_type is CommandType.PAUSE


def test_commands_are_to_be_executed_within_the_boundarys_budget() -> None:
    slow = Controller(policy("random"), "run", deadline_ms=60_000)
    assert slow.decide(state(1), view(1), 0).execution_deadline_ms == 60_000
    assert controller("random").decide(state(1), view(1), 0).execution_deadline_ms == 18


def decided(epoch: int) -> Decided:
    one = controller("none")
    return Decided(one.decide(state(epoch), view(epoch), 0), state(epoch), view(epoch), True)


@given(st.integers(0, 8), st.integers(1, 4))
def test_windows_go_on_as_they_would_have(epochs: int, length: int) -> None:
    old, new = Observation("run", "v", length), Observation("run", "v", length)
    for epoch in range(epochs):
        old.watch(decided(epoch), 0)
    memory = old.remember()
    new.recall(msgspec.json.decode(msgspec.json.encode(memory), type=ObservationMemory))
    for epoch in range(epochs, epochs + 6):
        assert new.watch(decided(epoch), 0) == old.watch(decided(epoch), 0)
        assert new.due(epoch) == old.due(epoch)
    facts = decided(epochs + 6)
    assert new.close(facts.state, facts.view, 0) == old.close(facts.state, facts.view, 0)


def test_growth_that_has_drawn_goes_on_drawing_where_it_was() -> None:
    one = GrowBlindly(CATALOGUE, random.Random(5), GrowthConfig(), seeds=2, window=(0.0, 0.1))
    other = GrowBlindly(CATALOGUE, random.Random(6), GrowthConfig(), seeds=2, window=(0.0, 0.1))
    first = one.act(state(5), view(5, progress=0.5))
    other.take_over(one.memory())
    assert other.act(state(6), view(6, progress=0.5)) == one.act(state(6), view(6, progress=0.5)) != first
    assert RunConfig().policy in NAMES
