"""The life of a seed as one table: every stage, every transition, the gate on each.

Everything that decides whether a transition is legal is in this file; `transition()` is the only
reader of the table. Numbers are those of the wire.
"""

from enum import IntEnum

import msgspec


class Stage(IntEnum):
    """Where a seed is in its life."""

    UNKNOWN = 0
    DORMANT = 1
    GERMINATED = 2
    TRAINING = 3
    BLENDING = 4
    SHADOWING = 5
    PROBATIONARY = 6
    FOSSILIZED = 7
    CULLED = 8
    EMBARGOED = 9
    RESETTING = 10
    TERMINATED = 11


class Gate(IntEnum):
    """What must hold before a stage is left forwards."""

    UNKNOWN = 0
    G0_SANITY = 1
    G1_GRADIENT_HEALTH = 2
    G2_STABILITY = 3
    G3_INTERFACE = 4
    G4_SYSTEM_IMPACT = 5
    G5_RESET = 6


class SeedOperation(IntEnum):
    """What a command asks of a seed."""

    UNKNOWN = 0
    GERMINATE = 1
    START_TRAINING = 2
    START_GRAFTING = 3
    STABILIZE = 4
    EVALUATE = 5
    FINE_TUNE = 6
    FOSSILIZE = 7
    CULL = 8
    CANCEL = 9


class Transition(msgspec.Struct, frozen=True):
    """One legal step; `gate` is what is measured first, or None where nothing needs to hold."""

    source: Stage
    target: Stage
    gate: Gate | None = None


_S, _G = Stage, Gate
TRANSITIONS: tuple[Transition, ...] = (
    Transition(_S.DORMANT, _S.GERMINATED),
    Transition(_S.GERMINATED, _S.TRAINING, _G.G0_SANITY),
    Transition(_S.TRAINING, _S.BLENDING, _G.G1_GRADIENT_HEALTH),
    Transition(_S.BLENDING, _S.SHADOWING, _G.G2_STABILITY),
    Transition(_S.SHADOWING, _S.PROBATIONARY, _G.G3_INTERFACE),
    Transition(_S.PROBATIONARY, _S.FOSSILIZED, _G.G4_SYSTEM_IMPACT),
    Transition(_S.GERMINATED, _S.CULLED),
    Transition(_S.TRAINING, _S.CULLED),
    Transition(_S.BLENDING, _S.CULLED),
    Transition(_S.SHADOWING, _S.CULLED),
    Transition(_S.PROBATIONARY, _S.CULLED),
    Transition(_S.CULLED, _S.EMBARGOED),
    Transition(_S.EMBARGOED, _S.RESETTING),
    Transition(_S.RESETTING, _S.DORMANT, _G.G5_RESET),
    *(Transition(stage, _S.TERMINATED) for stage in _S if stage not in (_S.UNKNOWN, _S.TERMINATED)),
)
_TABLE = {(step.source, step.target): step for step in TRANSITIONS}

OPERATION_TARGET: dict[SeedOperation, Stage] = {
    SeedOperation.GERMINATE: Stage.GERMINATED,
    SeedOperation.START_TRAINING: Stage.TRAINING,
    SeedOperation.START_GRAFTING: Stage.BLENDING,
    SeedOperation.STABILIZE: Stage.SHADOWING,
    SeedOperation.EVALUATE: Stage.PROBATIONARY,
    SeedOperation.FINE_TUNE: Stage.PROBATIONARY,
    SeedOperation.FOSSILIZE: Stage.FOSSILIZED,
    SeedOperation.CULL: Stage.CULLED,
    SeedOperation.CANCEL: Stage.CULLED,
}

MAIN_LINE: tuple[Stage, ...] = (
    Stage.DORMANT,
    Stage.GERMINATED,
    Stage.TRAINING,
    Stage.BLENDING,
    Stage.SHADOWING,
    Stage.PROBATIONARY,
    Stage.FOSSILIZED,
)
"""The stages of a seed that succeeds, in order."""

ACTIVE = frozenset({Stage.GERMINATED, Stage.TRAINING, Stage.BLENDING, Stage.SHADOWING, Stage.PROBATIONARY})
"""Stages between germination and fossilization: there is a module whose fate is open."""

ISOLATED = frozenset({Stage.GERMINATED, Stage.TRAINING, Stage.SHADOWING})
"""Stages in which a seed exists and the host runs bit for bit as if it did not."""

LIVE = frozenset({Stage.BLENDING, Stage.PROBATIONARY, Stage.FOSSILIZED})
"""Stages in which the seed's output reaches the host's."""

RESTING = frozenset({Stage.CULLED, Stage.EMBARGOED, Stage.RESETTING})
"""Stages in which a site takes no seed because one was culled there."""

ENDS = frozenset({Stage.FOSSILIZED, Stage.TERMINATED})
"""Stages that growth itself never leaves (the operator can still terminate a fossilized seed)."""


class IllegalTransition(ValueError):
    """A transition that the table does not have."""


def targets(stage: Stage) -> tuple[Stage, ...]:
    """The stages that can follow `stage`."""
    return tuple(step.target for step in TRANSITIONS if step.source is stage)


def transition(source: Stage, target: Stage) -> Transition:
    """The table's entry for `source` to `target`.

    Raises:
        IllegalTransition: there is none; the message names what would be legal.
    """
    step = _TABLE.get((source, target))
    if step is None:
        legal = ", ".join(stage.name for stage in targets(source)) or "nothing: it is an end"
        raise IllegalTransition(f"a {source.name} seed can't become {target.name}; it can become {legal}")
    return step


def diagram() -> str:
    """The table as a Mermaid state diagram; a step's label is the gate that is judged on it."""
    start = f"    [*] --> {Stage.DORMANT.name}"
    steps = (_arrow(step) for step in TRANSITIONS if step.target is not Stage.TERMINATED)
    ends = (f"    {stage.name} --> [*]" for stage in sorted(ENDS))
    note = (
        f"    note right of {Stage.TERMINATED.name}\n        From any stage, by the operator.\n    end note"
    )
    return "\n".join(("stateDiagram-v2", start, *steps, *ends, note))


def _arrow(step: Transition) -> str:
    label = f": {step.gate.name}" if step.gate is not None else ""
    return f"    {step.source.name} --> {step.target.name}{label}"
