"""The table of the life of a seed says what the design says."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.lifecycle import (
    ACTIVE,
    ENDS,
    ISOLATED,
    LIVE,
    MAIN_LINE,
    OPERATION_TARGET,
    TRANSITIONS,
    Gate,
    IllegalTransition,
    SeedOperation,
    Stage,
    diagram,
    targets,
    transition,
)

STAGES = [stage for stage in Stage if stage is not Stage.UNKNOWN]


def reachable(start: Stage) -> set[Stage]:
    found, frontier = {start}, [start]
    while frontier:
        new = [stage for stage in targets(frontier.pop()) if stage not in found]
        found.update(new)
        frontier.extend(new)
    return found


def test_the_table_holds_each_step_once_and_never_touches_unknown() -> None:
    steps = [(step.source, step.target) for step in TRANSITIONS]
    assert len(set(steps)) == len(steps)
    assert all(Stage.UNKNOWN not in step for step in steps)


@given(st.sampled_from(Stage), st.sampled_from(Stage))
def test_transition_gives_the_table_s_step_or_names_what_would_be_legal(source: Stage, target: Stage) -> None:
    if target in targets(source):
        step = transition(source, target)
        assert (step.source, step.target) == (source, target)
        return
    with pytest.raises(
        IllegalTransition, match=f"a {source.name} seed can't become {target.name}"
    ) as refusal:
        transition(source, target)
    assert all(stage.name in str(refusal.value) for stage in targets(source))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_reached_from_dormant_and_reaches_an_end(stage: Stage) -> None:
    assert stage in reachable(Stage.DORMANT)
    assert reachable(stage) & ENDS


@pytest.mark.parametrize("stage", STAGES)
def test_the_operator_can_terminate_from_every_stage(stage: Stage) -> None:
    assert stage is Stage.TERMINATED or Stage.TERMINATED in targets(stage)


def test_the_main_line_is_legal_and_meets_gates_0_to_4_in_order() -> None:
    steps = [transition(source, target) for source, target in pairwise(MAIN_LINE)]
    assert [step.gate for step in steps] == [
        None,
        Gate.G0_SANITY,
        Gate.G1_GRADIENT_HEALTH,
        Gate.G2_STABILITY,
        Gate.G3_INTERFACE,
        Gate.G4_SYSTEM_IMPACT,
    ]
    assert transition(Stage.RESETTING, Stage.DORMANT).gate is Gate.G5_RESET


def test_exactly_the_active_stages_can_be_culled() -> None:
    assert {stage for stage in STAGES if Stage.CULLED in targets(stage)} == ACTIVE


def test_every_active_stage_is_isolated_or_live_and_none_is_both() -> None:
    assert not ISOLATED & LIVE
    assert ACTIVE == (ISOLATED | LIVE) - ENDS


def test_every_operation_but_unknown_has_a_target() -> None:
    assert OPERATION_TARGET.keys() == set(SeedOperation) - {SeedOperation.UNKNOWN}


def test_the_diagram_is_drawn_from_the_table() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    drawn = {line.strip().partition(":")[0] for line in lines if "-->" in line and "[*]" not in line}
    table = {(step.source, step.target) for step in TRANSITIONS if step.target is not Stage.TERMINATED}
    assert drawn == {f"{source.name} --> {target.name}" for source, target in table}
    assert "    PROBATIONARY --> FOSSILIZED: G4_SYSTEM_IMPACT" in lines
