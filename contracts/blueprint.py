"""What a blueprint says of itself."""

from enum import IntEnum

import msgspec


class BlueprintTier(IntEnum):
    """How far a blueprint is trusted."""

    UNSPECIFIED = 0
    SAFE = 1  # offered to everybody
    EXPERIMENTAL = 2  # grown only where a run's configuration approves of it by id
    HIGH_RISK = 3  # misbehaves on purpose; for drills alone


class BlueprintParameterBounds(msgspec.Struct, frozen=True):
    """The closed range of one setting."""

    min_value: float
    max_value: float


class BlueprintDescriptor(msgspec.Struct, frozen=True):
    """Name, trust and settings of one blueprint."""

    blueprint_id: str
    name: str
    tier: BlueprintTier
    description: str
    allowed_parameters: dict[str, BlueprintParameterBounds] = {}
    risk: float = 0.0
    """0 to 1: at most 0.3 if safe, 0.4 to 0.6 if experimental, from 0.9 if high-risk."""
    stage: int = 0
    """Curriculum stage: up to 1 on offer by default, 2 cheap, 3 dear, 4 experimental, 5 for drills."""
    quarantine_only: bool = False
    """Grown on the isolated path of a drill, and nowhere else."""
    approval_required: bool = False
