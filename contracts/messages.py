"""Leyline's messages as structs: the facts that cross between subsystems.

Field names are those of the wire (`esper.leyline.v1`), so that the codec can map one to one.
`WallNs` is nanoseconds since the Unix epoch; a metric map is name to value.
A `JsonValue`'s lists and dicts hold `JsonValue`s again (the type can't say so: msgspec takes no recursive
alias); its numbers are doubles.
"""

from enum import IntEnum
from typing import TypeAlias

import msgspec

from contracts.lifecycle import SeedOperation, Stage

SCHEMA_VERSION = 1
WallNs: TypeAlias = int
DurationNs: TypeAlias = int
JsonValue: TypeAlias = bool | float | str | list[object] | dict[str, object] | None


class HealthStatus(IntEnum):
    """How a subsystem feels."""

    UNKNOWN = 0
    HEALTHY = 1
    DEGRADED = 2
    UNHEALTHY = 3
    CRITICAL = 4


class CircuitBreakerState(IntEnum):
    """What a breaker lets through: all, nothing, one trial."""

    UNKNOWN = 0
    CLOSED = 1
    OPEN = 2
    HALF_OPEN = 3


class CommandType(IntEnum):
    """What kind of thing a command asks for. `PAUSE` without a target is "do nothing now"."""

    UNKNOWN = 0
    SEED = 1
    ROLLBACK = 2
    OPTIMIZER = 3
    CIRCUIT_BREAKER = 4
    PAUSE = 5
    EMERGENCY = 6
    STRUCTURAL_PRUNING = 7


class MessagePriority(IntEnum):
    """Order of service; `CRITICAL` travels in the urgent lane."""

    UNSPECIFIED = 0
    LOW = 1
    NORMAL = 2
    HIGH = 3
    CRITICAL = 4


class TelemetryLevel(IntEnum):
    """How much a telemetry packet matters."""

    UNSPECIFIED = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    CRITICAL = 4


class EmergencyLevel(IntEnum):
    """How bad it is."""

    UNSPECIFIED = 0
    NOTICE = 1
    ELEVATED = 2
    CONSERVATIVE = 3
    HALT = 4


class FieldReportOutcome(IntEnum):
    """What came of a command once its observation window had closed."""

    UNSPECIFIED = 0
    SUCCESS = 1
    NEUTRAL = 2
    REGRESSION = 3
    ABORTED = 4


class HardwareContext(msgspec.Struct, frozen=True):
    """The device that trains."""

    device_type: str = "cpu"
    device_id: str = ""
    total_memory_gb: float = 0.0
    available_memory_gb: float = 0.0
    temperature_celsius: float = 0.0
    utilization_percent: float = 0.0
    compute_capability: int = 0


class SeedState(msgspec.Struct, frozen=True):
    """One seed as the controller sees it."""

    seed_id: str
    stage: Stage
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    layer_depth: int = 0
    metrics: dict[str, float] = {}
    age_epochs: int = 0
    risk_score: float = 0.0


class SystemState(msgspec.Struct, frozen=True):
    """The training run at an epoch boundary (`SystemStatePacket` on the wire)."""

    current_epoch: int
    validation_accuracy: float
    validation_loss: float
    timestamp_ns: WallNs
    packet_id: str
    global_step: int
    training_loss: float
    training_run_id: str
    seed_states: tuple[SeedState, ...] = ()
    training_metrics: dict[str, float] = {}
    hardware_context: HardwareContext = HardwareContext()
    source_subsystem: str = "tolaria"
    experiment_name: str = ""
    version: int = SCHEMA_VERSION


class CommandSeedOperation(msgspec.Struct, frozen=True, tag="seed_operation"):
    """Move one seed; `parameters` are the operation's figures (size, epochs a stage, rate)."""

    operation: SeedOperation
    blueprint_id: str = ""
    parameters: dict[str, float] = {}


class CommandOptimizerAdjustment(msgspec.Struct, frozen=True, tag="optimizer_adjustment"):
    """Change hyperparameters of one optimizer group."""

    optimizer_id: str
    hyperparameters: dict[str, float] = {}


class CommandCircuitBreaker(msgspec.Struct, frozen=True, tag="circuit_breaker"):
    """Put a breaker into a state."""

    desired_state: CircuitBreakerState
    rationale: str = ""


class CommandRollback(msgspec.Struct, frozen=True, tag="rollback_payload"):
    """Go back; `details` is free-form (a protobuf Struct on the wire)."""

    details: dict[str, JsonValue] = {}


CommandPayload: TypeAlias = (
    CommandSeedOperation | CommandOptimizerAdjustment | CommandCircuitBreaker | CommandRollback
)


class AdaptationCommand(msgspec.Struct, frozen=True):
    """What the controller wants done at this boundary.

    `target_seed_id` names the site's seed; for GERMINATE it is the id that the new seed will have,
    and `annotations["site"]` says where.
    """

    command_id: str
    command_type: CommandType
    issued_at: WallNs
    issued_by: str
    target_seed_id: str = ""
    execution_deadline_ms: int = 18
    payload: CommandPayload | None = None
    annotations: dict[str, str] = {}
    version: int = SCHEMA_VERSION


class EmergencySignal(msgspec.Struct, frozen=True):
    """Something that must overtake everything else."""

    level: EmergencyLevel
    reason: str
    origin: str
    triggered_at: WallNs
    monotonic_time_ms: int = 0
    run_id: str = ""
    attributes: dict[str, str] = {}
    payload_checksum: bytes = b""
    version: int = SCHEMA_VERSION


class MitigationAction(msgspec.Struct, frozen=True):
    """What followed from a report."""

    action_type: str
    rationale: str = ""


class FieldReport(msgspec.Struct, frozen=True):
    """What a command did, written when its observation window closed."""

    report_id: str
    command_id: str
    training_run_id: str
    seed_id: str
    blueprint_id: str
    outcome: FieldReportOutcome
    metrics: dict[str, float]
    observation_window_epochs: int
    issued_at: WallNs
    tamiyo_policy_version: str
    follow_up_actions: tuple[MitigationAction, ...] = ()
    notes: str = ""
    version: int = SCHEMA_VERSION


class PolicyUpdate(msgspec.Struct, frozen=True):
    """A new version of the controller's policy; `payload` is its weights as they are stored."""

    policy_id: str
    training_run_id: str
    issued_at: WallNs
    tamiyo_policy_version: str
    payload: bytes = b""
    version: int = SCHEMA_VERSION


class MetricPoint(msgspec.Struct, frozen=True):
    """One figure."""

    name: str
    value: float
    unit: str = ""
    attributes: dict[str, str] = {}


class TelemetryEvent(msgspec.Struct, frozen=True):
    """One thing that happened."""

    event_id: str
    description: str
    level: TelemetryLevel = TelemetryLevel.INFO
    attributes: dict[str, str] = {}


class TraceSpan(msgspec.Struct, frozen=True):
    """One timed piece of work."""

    span_id: str
    name: str
    start_time: WallNs
    end_time: WallNs
    parent_span_id: str = ""
    attributes: dict[str, str] = {}


class SystemHealth(msgspec.Struct, frozen=True):
    """One subsystem's health."""

    status: HealthStatus
    summary: str = ""
    indicators: dict[str, str] = {}


class TelemetryPacket(msgspec.Struct, frozen=True):
    """Figures, events and spans of one subsystem, sent together."""

    packet_id: str
    timestamp: WallNs
    source_subsystem: str
    level: TelemetryLevel = TelemetryLevel.INFO
    metrics: tuple[MetricPoint, ...] = ()
    events: tuple[TelemetryEvent, ...] = ()
    spans: tuple[TraceSpan, ...] = ()
    system_health: SystemHealth | None = None
