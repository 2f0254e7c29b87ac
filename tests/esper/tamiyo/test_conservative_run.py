"""The caretaker in place of the heuristic in a real run: what it decides, and how the heuristic goes on."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import msgspec
import pytest
import torch
from msgspec.structs import replace as changed
from torch import Tensor

from contracts.config import Config
from esper.tamiyo.caretaker import Caretaker
from esper.tamiyo.controller import Controller
from tests.esper.tolaria.runs import Run, config, same_value, tensors_of
from tests.hosts import HOSTS

HOST = HOSTS[0]
EPOCHS, TURNS = 24, 14
"""A budget that pays for the races, and how much of it is trained here."""


@dataclass
class Played:
    """A run with what was decided at each boundary, and what the heuristic knew after it."""

    decided: list[tuple[str, str]]
    """(who, what), from the boundary of epoch 1 on; refusals are left out."""
    memories: list[dict[str, Any]]
    tensors: dict[str, Tensor]

    def at(self, what: str) -> list[int]:
        """Epochs at whose boundaries that was decided."""
        return [epoch for epoch, (_, done) in enumerate(self.decided, 1) if done == what]


def settings(gain_min: float) -> Config:
    plain = config("heuristic", EPOCHS)
    gates = changed(plain.growth.gates, gain_min=gain_min)
    heuristic = changed(plain.tamiyo.heuristic, rent=0.0, plateau_epochs=2, plateau_gain=1.0)
    return changed(
        plain,
        growth=changed(plain.growth, gates=gates),
        tamiyo=changed(plain.tamiyo, heuristic=heuristic),
    )


def play(conservative: Collection[int] = (), gain_min: float = 0.0) -> Played:
    """A run that is in conservative mode after these epochs."""
    torch.manual_seed(0)
    chosen = settings(gain_min)
    run = Run.new(HOST, chosen)
    policy = run.controller.policy
    run.controller = Controller(policy, "run", fallback=Caretaker(chosen.growth.gates))
    assemble, propose = run.trainer.assemble, run.engine.propose

    def assembled() -> Any:
        facts = assemble()
        growth = changed(facts.growth, conservative=facts.growth.epoch in conservative)
        return replace(facts, growth=growth)

    def proposed(*given: Any) -> Any:
        return propose(*given, conservative=given[2] in conservative)

    run.trainer.assemble, run.engine.propose = assembled, proposed  # type: ignore[method-assign,assignment]
    found = Played([], [], {})
    for _ in range(TURNS):
        run.turn()
        _, _, command, applied, *_ = run.told[-1]  # type: ignore[misc]
        found.decided.append((command.issued_by, command.annotations["action"] if applied else "refused"))
        memory = run.controller.remember().memory
        assert memory is not None
        found.memories.append(msgspec.msgpack.decode(memory))
    found.tensors = tensors_of(run)
    return found


@cache
def undisturbed(gain_min: float) -> Played:
    return play(gain_min=gain_min)


def own(memory: dict[str, Any]) -> dict[str, Any]:
    """What does not say merely when it was asked."""
    return {name: value for name, value in memory.items() if name not in ("losses", "acted_at", "tended")}


@pytest.mark.parametrize(
    ("gain_min", "end"),
    [(0.0, "fossilize"), pytest.param(1e3, "cull", marks=pytest.mark.slow)],
    ids=["it gains", "it does not"],
)
def test_a_seed_that_others_judged_leaves_the_heuristic_as_if_it_had_judged_it(
    gain_min: float, end: str
) -> None:
    calm = undisturbed(gain_min)
    last = calm.at(end)[0]
    begins = max(epoch for epoch in calm.at("start_grafting") if epoch < last) + 1
    disturbed = play(range(begins, last + 1), gain_min)
    who = {issued_by for issued_by, _ in disturbed.decided[begins - 1 : last]}
    assert who == {"tamiyo/caretaker"}
    assert disturbed.decided[last - 1][1] == end
    assert [what for _, what in disturbed.decided] == [what for _, what in calm.decided]
    assert own(disturbed.memories[last]) == own(calm.memories[last]), "after the next boundary"
    assert same_value(disturbed.tensors, calm.tensors), "and the run is the same, bit for bit"


def test_nothing_is_germinated_until_it_is_over_and_then_what_was_due() -> None:
    calm = undisturbed(0.0)
    first = calm.at("germinate")[0]
    disturbed = play(range(1, first + 3))
    assert disturbed.at("germinate")[0] >= first + 3
    assert {what for _, what in disturbed.decided[: first + 2]} == {"wait"}


def test_a_seed_that_the_host_has_not_run_with_waits_and_is_taken_along_afterwards() -> None:
    calm = undisturbed(0.0)
    germinated = calm.at("germinate")[0]
    disturbed = play(range(germinated + 1, germinated + 3))
    assert disturbed.at("start_training")[0] == calm.at("start_training")[0] + 2
    assert own(disturbed.memories[germinated + 2]) == own(calm.memories[germinated])
    assert disturbed.at("fossilize"), "it grows up all the same"


def test_conservative_mode_to_the_end_lets_nothing_in() -> None:
    disturbed = play(range(1, TURNS + 1))
    assert {what for _, what in disturbed.decided} == {"wait"}
