"""Claims about the command that each action becomes."""

import pytest

from contracts.growth import Candidate, Path
from contracts.lifecycle import SeedOperation
from contracts.messages import CommandSeedOperation, CommandType
from esper.tamiyo.action import Advance, Cull, Germinate, NoAction, Wait, command_for


def test_to_wait_is_a_pause_without_a_target() -> None:
    command = command_for(Wait("not yet"), "c1", "tamiyo/none", 5)
    assert command.command_type is CommandType.PAUSE
    assert command.target_seed_id == ""
    assert command.payload is None
    assert command.annotations["reason"] == "not yet"


def test_to_germinate_names_site_blueprint_settings_and_path() -> None:
    candidate = Candidate("relu1", "BP003", {"width": 8.0}, 308)
    command = command_for(Germinate(candidate, Path(1, 2, 3, 4), "won"), "c1", "tamiyo/heuristic", 5)
    assert command.annotations["site"] == "relu1"
    assert command.payload == CommandSeedOperation(
        SeedOperation.GERMINATE,
        "BP003",
        {
            "width": 8.0,
            "training_epochs": 1.0,
            "blending_epochs": 2.0,
            "shadowing_epochs": 3.0,
            "probation_epochs": 4.0,
        },
    )
    assert "approved" not in command.annotations


def test_to_germinate_says_that_it_is_approved_only_if_it_is() -> None:
    approved = Germinate(Candidate("relu1", "BP036"), Path(), "won", approved=True)
    annotations = command_for(approved, "c1", "tamiyo/heuristic", 5).annotations
    assert annotations["approved"] == "true"
    assert annotations["site"] == "relu1"


def test_to_advance_and_to_cull_name_the_seed() -> None:
    advance = command_for(Advance("relu1#0", SeedOperation.EVALUATE), "c1", "t", 5)
    cull = command_for(Cull("relu1#0", rollback=True), "c2", "t", 5)
    assert advance.target_seed_id == cull.target_seed_id == "relu1#0"
    assert advance.payload == CommandSeedOperation(SeedOperation.EVALUATE)
    assert cull.payload == CommandSeedOperation(SeedOperation.CULL)
    assert cull.annotations["rollback"] == "true"


@pytest.mark.parametrize("answer", ["wait", object(), None, Wait])
def test_what_is_no_action_is_refused_by_the_name_of_its_type(answer: object) -> None:
    due = "one of Wait, Germinate, Advance, Cull, Pause"
    said = f"the policy answered {type(answer).__name__} where {due} was due"
    with pytest.raises(NoAction, match=f"^{said}$"):
        command_for(answer, "c1", "tamiyo/mine", 5)  # type: ignore[arg-type]
