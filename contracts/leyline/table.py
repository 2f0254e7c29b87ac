"""Which struct is which message of `esper.leyline.v1`, and which enum: the mapping's hand-written part.

Everything else follows from the two descriptions: a field's name is the same on both sides, and its type on
the wire decides its type in the struct (`parity.py`).
"""

from enum import IntEnum
from typing import NamedTuple

import msgspec

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.budgets import MemoryBudgets, PerformanceBudgets, SystemLimits
from contracts.envelopes import BusEnvelope, BusMessageType, DeliveryGuarantee, EventEnvelope
from contracts.kernels import (
    KernelArtifactError,
    KernelArtifactReady,
    KernelCatalogUpdate,
    KernelPrefetchRequest,
)
from contracts.lifecycle import Gate, SeedOperation, Stage
from contracts.messages import (
    AdaptationCommand,
    CircuitBreakerState,
    CommandCircuitBreaker,
    CommandOptimizerAdjustment,
    CommandRollback,
    CommandSeedOperation,
    CommandType,
    EmergencyLevel,
    EmergencySignal,
    FieldReport,
    FieldReportOutcome,
    HardwareContext,
    HealthStatus,
    MessagePriority,
    MetricPoint,
    MitigationAction,
    PolicyUpdate,
    SeedState,
    SystemHealth,
    SystemState,
    TelemetryEvent,
    TelemetryLevel,
    TelemetryPacket,
    TraceSpan,
)


class WireEnum(NamedTuple):
    """The enum in this process, and what its names begin with on the wire."""

    type: type[IntEnum]
    prefix: str


MESSAGES: dict[str, type[msgspec.Struct]] = {
    "HardwareContext": HardwareContext,
    "SeedState": SeedState,
    "SystemStatePacket": SystemState,
    "CommandSeedOperation": CommandSeedOperation,
    "CommandOptimizerAdjustment": CommandOptimizerAdjustment,
    "CommandCircuitBreaker": CommandCircuitBreaker,
    "AdaptationCommand": AdaptationCommand,
    "EmergencySignal": EmergencySignal,
    "MitigationAction": MitigationAction,
    "FieldReport": FieldReport,
    "PolicyUpdate": PolicyUpdate,
    "BlueprintParameterBounds": BlueprintParameterBounds,
    "BlueprintDescriptor": BlueprintDescriptor,
    "KernelPrefetchRequest": KernelPrefetchRequest,
    "KernelArtifactReady": KernelArtifactReady,
    "KernelArtifactError": KernelArtifactError,
    "KernelCatalogUpdate": KernelCatalogUpdate,
    "MetricPoint": MetricPoint,
    "TelemetryEvent": TelemetryEvent,
    "TraceSpan": TraceSpan,
    "SystemHealth": SystemHealth,
    "TelemetryPacket": TelemetryPacket,
    "EventEnvelope": EventEnvelope,
    "BusEnvelope": BusEnvelope,
    "PerformanceBudgets": PerformanceBudgets,
    "MemoryBudgets": MemoryBudgets,
    "SystemLimits": SystemLimits,
}
"""Struct by the message's name; a message comes after those that it contains."""

DETAILS = CommandRollback
"""The struct around a `google.protobuf.Struct`."""

ENUMS: dict[str, WireEnum] = {
    "SeedLifecycleStage": WireEnum(Stage, "SEED_STAGE_"),
    "SeedLifecycleGate": WireEnum(Gate, "SEED_GATE_"),
    "HealthStatus": WireEnum(HealthStatus, "HEALTH_STATUS_"),
    "CircuitBreakerState": WireEnum(CircuitBreakerState, "CIRCUIT_STATE_"),
    "CommandType": WireEnum(CommandType, "COMMAND_"),
    "SeedOperation": WireEnum(SeedOperation, "SEED_OP_"),
    "MessagePriority": WireEnum(MessagePriority, "MESSAGE_PRIORITY_"),
    "DeliveryGuarantee": WireEnum(DeliveryGuarantee, "DELIVERY_GUARANTEE_"),
    "TelemetryLevel": WireEnum(TelemetryLevel, "TELEMETRY_LEVEL_"),
    "EmergencyLevel": WireEnum(EmergencyLevel, "EMERGENCY_LEVEL_"),
    "FieldReportOutcome": WireEnum(FieldReportOutcome, "FIELD_REPORT_OUTCOME_"),
    "BlueprintTier": WireEnum(BlueprintTier, "BLUEPRINT_TIER_"),
    "BusMessageType": WireEnum(BusMessageType, "BUS_MESSAGE_TYPE_"),
}
"""Enum by its name on the wire."""
