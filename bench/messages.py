"""The four messages of the loop as they really are, with the usual metrics: what is measured and tested."""

import msgspec
from msgspec.structs import replace

from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import (
    AdaptationCommand,
    CommandSeedOperation,
    CommandType,
    FieldReport,
    FieldReportOutcome,
    HardwareContext,
    MetricPoint,
    SeedState,
    SystemState,
    TelemetryPacket,
)

NOW_NS = 1_757_000_000_123_456_789
METRICS = {
    "train_loss": 0.4375,
    "accuracy": 0.8125,
    "grad_norm": 1.5,
    "learning_rate": 0.0078125,
    "epoch_ms": 812.5,
    "boundary_ms": 4.75,
    "params": 4_224.0,
    "grown_params": 512.0,
    "seeds_active": 4.0,
    "gflop": 3.25,
}
"""Ten, every one a number that 32 bits hold exactly."""


def seed(index: int, stage: Stage) -> SeedState:
    return SeedState(
        seed_id=f"layers.{index}#0",
        stage=stage,
        gradient_norm=0.5,
        learning_rate=0.0078125,
        layer_depth=index,
        metrics={"alpha": 0.25, "loss_gain": -0.0625},
        age_epochs=3 + index,
        risk_score=0.125,
    )


STATE = SystemState(
    current_epoch=12,
    validation_accuracy=0.8125,
    validation_loss=0.375,
    timestamp_ns=NOW_NS,
    packet_id="state-12",
    global_step=480,
    training_loss=0.4375,
    training_run_id="mnist1d-0",
    seed_states=(
        seed(0, Stage.TRAINING),
        seed(1, Stage.BLENDING),
        seed(2, Stage.SHADOWING),
        seed(3, Stage.FOSSILIZED),
    ),
    training_metrics=METRICS,
    hardware_context=HardwareContext("cpu", "cpu:0", 16.0, 12.5, 0.0, 37.5, 0),
    experiment_name="mnist1d",
)
COMMAND = AdaptationCommand(
    command_id="cmd-12-1",
    command_type=CommandType.SEED,
    issued_at=NOW_NS,
    issued_by="tamiyo",
    payload=CommandSeedOperation(
        SeedOperation.GERMINATE, "BP004", {"size": 16.0, "training_epochs": 4.0, "learning_rate": 0.0078125}
    ),
    annotations={"site": "layers.2", "reason": "validation loss is flat"},
)
TELEMETRY = TelemetryPacket(
    packet_id="telemetry-12",
    timestamp=NOW_NS,
    source_subsystem="tolaria",
    metrics=(
        MetricPoint("train.loss", 0.4375),
        MetricPoint("validation.loss", 0.375),
        MetricPoint("validation.accuracy", 0.8125),
        MetricPoint("epoch.duration", 0.8125, "s"),
        MetricPoint("boundary.duration", 0.00475, "s"),
        MetricPoint("params", 4_736.0),
        MetricPoint("learning_rate", 0.0078125),
        MetricPoint("grad.norm", 1.5),
        MetricPoint("seeds.active", 4.0),
        MetricPoint("spent", 3.25, "gflop"),
    ),
)
"""Ten figures."""
USUAL_TELEMETRY = replace(TELEMETRY, metrics=TELEMETRY.metrics[:6])
"""As many as an epoch has at least."""
USUAL_METRICS = {
    "loss_before": 0.4375,
    "loss_after": 0.375,
    "loss_gain": 0.0625,
    "params": 512.0,
    "gflop": 0.25,
}
"""What a field report has at least."""
REPORT = FieldReport(
    report_id="report-cmd-12-1",
    command_id="cmd-12-1",
    training_run_id="mnist1d-0",
    seed_id="layers.2#0",
    blueprint_id="BP004",
    outcome=FieldReportOutcome.SUCCESS,
    metrics={
        **USUAL_METRICS,
        "accuracy_before": 0.75,
        "accuracy_after": 0.8125,
        "grad_norm": 1.5,
        "alpha": 1.0,
        "risk_score": 0.125,
    },
    observation_window_epochs=4,
    issued_at=NOW_NS,
    tamiyo_policy_version="heuristic-1",
)
"""Ten figures."""
USUAL_REPORT = replace(REPORT, metrics=USUAL_METRICS)
LOOP_MESSAGES: dict[str, msgspec.Struct] = {
    "SystemStatePacket": STATE,
    "AdaptationCommand": COMMAND,
    "TelemetryPacket": TELEMETRY,
    "FieldReport": REPORT,
}
"""By the message's name."""
