"""What a blueprint says of itself."""

from enum import IntEnum

import msgspec


class BlueprintTier(IntEnum):
    """How far a blueprint is trusted."""

    UNSPECIFIED = 0
    SAFE = 1
    EXPERIMENTAL = 2
    HIGH_RISK = 3


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
    stage: int = 0
    quarantine_only: bool = False
    approval_required: bool = False
