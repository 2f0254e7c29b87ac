"""What things may cost: the budgets that a run shows and the benchmarks gate."""

import msgspec


class PerformanceBudgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time budgets; the names carry the unit."""

    epoch_boundary_ms: int = 18
    """The pause between two epochs, validation not counted."""
    tamiyo_inference_ms: int = 12
    """One decision."""
    systemstate_assembly_ms: int = 3
    """Putting the state together."""
    adaptation_processing_ms: int = 2
    """Judging a command and planning it."""
    fast_rollback_ms: int = 500
    """Rollback from memory."""
    full_rollback_seconds: int = 12
    """Rollback from disk."""
    protobuf_serialization_us: int = 80
    """One loop message to the wire or back."""
    message_validation_us: int = 20
    """Checking one message."""
    breaker_timeout_ms: int = 1000
    """After which a call counts as failed."""
    breaker_reset_seconds: int = 30
    """How long a breaker stays open."""
    importance_tracking_overhead_percent: int = 1
    """Share of training time."""
    checkpoint_analysis_minutes_min: int = 2
    """Analysis of a checkpoint, at least."""
    checkpoint_analysis_minutes_max: int = 5
    """Analysis of a checkpoint, at most."""
    structured_validation_seconds: int = 60
    """One structured validation."""
    rollback_coordination_seconds: int = 30
    """All subsystems agreeing on a rollback."""


class MemoryBudgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares of the memory a run may use; the first seven add up to 1."""

    model_percent: float = 0.40
    optimizer_percent: float = 0.25
    gradients_percent: float = 0.15
    checkpoints_percent: float = 0.08
    telemetry_percent: float = 0.05
    morphogenetic_percent: float = 0.05
    emergency_percent: float = 0.02
    importance_statistics_percent: float = 0.03
    pruning_metadata_percent: float = 0.02


class SystemLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts and sizes that nothing may pass."""

    max_seeds_per_epoch: int = 100
    max_message_size_bytes: int = 280
    max_queue_depth: int = 10_000
    max_retry_attempts: int = 3
    max_pause_quota: int = 10_000
    max_gc_allocations_per_msg: int = 4
    max_pruning_ratio_percent: int = 50
    max_consecutive_pruning_failures: int = 3
    max_checkpoint_storage_gb: int = 100
    max_importance_history_days: int = 30
