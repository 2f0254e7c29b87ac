"""The loop's messages as protobuf the way one writes it by hand: two ways out, one way back.

Out, `construct_…` nests constructors with keyword arguments, and `fill_…` sets one attribute after the other
of an empty message; both are usual. Back, `read_…` reads every field into tuples and dicts. Nothing is
checked and nothing refused.
"""

from contracts.leyline import leyline_pb2 as pb
from contracts.messages import (
    AdaptationCommand,
    CommandSeedOperation,
    FieldReport,
    SystemState,
    TelemetryPacket,
)

SECOND_NS = 1_000_000_000


def construct_state(state: SystemState) -> bytes:
    hardware = state.hardware_context
    return pb.SystemStatePacket(
        version=state.version,
        current_epoch=state.current_epoch,
        validation_accuracy=state.validation_accuracy,
        validation_loss=state.validation_loss,
        timestamp_ns=state.timestamp_ns,
        hardware_context=pb.HardwareContext(
            device_type=hardware.device_type,
            device_id=hardware.device_id,
            total_memory_gb=hardware.total_memory_gb,
            available_memory_gb=hardware.available_memory_gb,
            temperature_celsius=hardware.temperature_celsius,
            utilization_percent=hardware.utilization_percent,
            compute_capability=hardware.compute_capability,
        ),
        training_metrics=state.training_metrics,
        seed_states=[
            pb.SeedState(
                seed_id=seed.seed_id,
                stage=seed.stage.value,  # type: ignore[arg-type]
                gradient_norm=seed.gradient_norm,
                learning_rate=seed.learning_rate,
                layer_depth=seed.layer_depth,
                metrics=seed.metrics,
                age_epochs=seed.age_epochs,
                risk_score=seed.risk_score,
            )
            for seed in state.seed_states
        ],
        packet_id=state.packet_id,
        global_step=state.global_step,
        training_loss=state.training_loss,
        source_subsystem=state.source_subsystem,
        training_run_id=state.training_run_id,
        experiment_name=state.experiment_name,
    ).SerializeToString()


def read_state(frame: bytes) -> tuple[object, ...]:
    wire = pb.SystemStatePacket.FromString(frame)
    hardware = wire.hardware_context
    return (
        wire.current_epoch,
        wire.validation_accuracy,
        wire.validation_loss,
        wire.timestamp_ns,
        wire.packet_id,
        wire.global_step,
        wire.training_loss,
        wire.training_run_id,
        tuple(
            [
                (
                    seed.seed_id,
                    seed.stage,
                    seed.gradient_norm,
                    seed.learning_rate,
                    seed.layer_depth,
                    dict(seed.metrics),
                    seed.age_epochs,
                    seed.risk_score,
                )
                for seed in wire.seed_states
            ]
        ),
        dict(wire.training_metrics),
        (
            hardware.device_type,
            hardware.device_id,
            hardware.total_memory_gb,
            hardware.available_memory_gb,
            hardware.temperature_celsius,
            hardware.utilization_percent,
            hardware.compute_capability,
        ),
        wire.source_subsystem,
        wire.experiment_name,
        wire.version,
    )


def construct_command(command: AdaptationCommand) -> bytes:
    payload = command.payload
    assert isinstance(payload, CommandSeedOperation)
    seconds, nanos = divmod(command.issued_at, SECOND_NS)
    return pb.AdaptationCommand(
        version=command.version,
        command_id=command.command_id,
        command_type=command.command_type.value,  # type: ignore[arg-type]
        target_seed_id=command.target_seed_id,
        execution_deadline_ms=command.execution_deadline_ms,
        issued_at={"seconds": seconds, "nanos": nanos},
        issued_by=command.issued_by,
        seed_operation=pb.CommandSeedOperation(
            operation=payload.operation.value,  # type: ignore[arg-type]
            blueprint_id=payload.blueprint_id,
            parameters=payload.parameters,
        ),
        annotations=command.annotations,
    ).SerializeToString()


def read_command(frame: bytes) -> tuple[object, ...]:
    wire = pb.AdaptationCommand.FromString(frame)
    payload: tuple[object, ...] | None = None
    if wire.WhichOneof("payload") == "seed_operation":
        operation = wire.seed_operation
        payload = (operation.operation, operation.blueprint_id, dict(operation.parameters))
    return (
        wire.command_id,
        wire.command_type,
        wire.issued_at.seconds * SECOND_NS + wire.issued_at.nanos,
        wire.issued_by,
        wire.target_seed_id,
        wire.execution_deadline_ms,
        payload,
        dict(wire.annotations),
        wire.version,
    )


def construct_telemetry(packet: TelemetryPacket) -> bytes:
    assert not packet.events
    assert not packet.spans
    assert packet.system_health is None
    seconds, nanos = divmod(packet.timestamp, SECOND_NS)
    return pb.TelemetryPacket(
        packet_id=packet.packet_id,
        timestamp={"seconds": seconds, "nanos": nanos},
        source_subsystem=packet.source_subsystem,
        level=packet.level.value,  # type: ignore[arg-type]
        metrics=[
            pb.MetricPoint(name=point.name, value=point.value, unit=point.unit, attributes=point.attributes)
            for point in packet.metrics
        ],
    ).SerializeToString()


def read_telemetry(frame: bytes) -> tuple[object, ...]:
    wire = pb.TelemetryPacket.FromString(frame)
    assert not wire.events
    assert not wire.spans
    assert not wire.HasField("system_health")
    return (
        wire.packet_id,
        wire.timestamp.seconds * SECOND_NS + wire.timestamp.nanos,
        wire.source_subsystem,
        wire.level,
        tuple([(point.name, point.value, point.unit, dict(point.attributes)) for point in wire.metrics]),
        (),
        (),
        None,
    )


def construct_report(report: FieldReport) -> bytes:
    seconds, nanos = divmod(report.issued_at, SECOND_NS)
    return pb.FieldReport(
        version=report.version,
        report_id=report.report_id,
        command_id=report.command_id,
        training_run_id=report.training_run_id,
        seed_id=report.seed_id,
        blueprint_id=report.blueprint_id,
        outcome=report.outcome.value,  # type: ignore[arg-type]
        metrics=report.metrics,
        observation_window_epochs=report.observation_window_epochs,
        issued_at={"seconds": seconds, "nanos": nanos},
        tamiyo_policy_version=report.tamiyo_policy_version,
        follow_up_actions=[
            pb.MitigationAction(action_type=action.action_type, rationale=action.rationale)
            for action in report.follow_up_actions
        ],
        notes=report.notes,
    ).SerializeToString()


def read_report(frame: bytes) -> tuple[object, ...]:
    wire = pb.FieldReport.FromString(frame)
    return (
        wire.report_id,
        wire.command_id,
        wire.training_run_id,
        wire.seed_id,
        wire.blueprint_id,
        wire.outcome,
        dict(wire.metrics),
        wire.observation_window_epochs,
        wire.issued_at.seconds * SECOND_NS + wire.issued_at.nanos,
        wire.tamiyo_policy_version,
        tuple([(action.action_type, action.rationale) for action in wire.follow_up_actions]),
        wire.notes,
        wire.version,
    )


def fill_state(state: SystemState) -> bytes:
    wire = pb.SystemStatePacket()
    wire.version = state.version
    wire.current_epoch = state.current_epoch
    wire.validation_accuracy = state.validation_accuracy
    wire.validation_loss = state.validation_loss
    wire.timestamp_ns = state.timestamp_ns
    theirs, hardware = wire.hardware_context, state.hardware_context
    theirs.device_type = hardware.device_type
    theirs.device_id = hardware.device_id
    theirs.total_memory_gb = hardware.total_memory_gb
    theirs.available_memory_gb = hardware.available_memory_gb
    theirs.temperature_celsius = hardware.temperature_celsius
    theirs.utilization_percent = hardware.utilization_percent
    theirs.compute_capability = hardware.compute_capability
    wire.training_metrics.update(state.training_metrics)
    add = wire.seed_states.add
    for seed in state.seed_states:
        grown = add()
        grown.seed_id = seed.seed_id
        grown.stage = seed.stage.value  # type: ignore[assignment]
        grown.gradient_norm = seed.gradient_norm
        grown.learning_rate = seed.learning_rate
        grown.layer_depth = seed.layer_depth
        grown.metrics.update(seed.metrics)
        grown.age_epochs = seed.age_epochs
        grown.risk_score = seed.risk_score
    wire.packet_id = state.packet_id
    wire.global_step = state.global_step
    wire.training_loss = state.training_loss
    wire.source_subsystem = state.source_subsystem
    wire.training_run_id = state.training_run_id
    wire.experiment_name = state.experiment_name
    return wire.SerializeToString()


def fill_command(command: AdaptationCommand) -> bytes:
    payload = command.payload
    assert isinstance(payload, CommandSeedOperation)
    wire = pb.AdaptationCommand()
    wire.version = command.version
    wire.command_id = command.command_id
    wire.command_type = command.command_type.value  # type: ignore[assignment]
    wire.target_seed_id = command.target_seed_id
    wire.execution_deadline_ms = command.execution_deadline_ms
    issued_at = wire.issued_at
    issued_at.seconds, issued_at.nanos = divmod(command.issued_at, SECOND_NS)
    wire.issued_by = command.issued_by
    operation = wire.seed_operation
    operation.operation = payload.operation.value  # type: ignore[assignment]
    operation.blueprint_id = payload.blueprint_id
    operation.parameters.update(payload.parameters)
    wire.annotations.update(command.annotations)
    return wire.SerializeToString()


def fill_telemetry(packet: TelemetryPacket) -> bytes:
    assert not packet.events
    assert not packet.spans
    assert packet.system_health is None
    wire = pb.TelemetryPacket()
    wire.packet_id = packet.packet_id
    timestamp = wire.timestamp
    timestamp.seconds, timestamp.nanos = divmod(packet.timestamp, SECOND_NS)
    wire.source_subsystem = packet.source_subsystem
    wire.level = packet.level.value  # type: ignore[assignment]
    add = wire.metrics.add
    for point in packet.metrics:
        metric = add()
        metric.name = point.name
        metric.value = point.value
        metric.unit = point.unit
        if point.attributes:
            metric.attributes.update(point.attributes)
    return wire.SerializeToString()


def fill_report(report: FieldReport) -> bytes:
    wire = pb.FieldReport()
    wire.version = report.version
    wire.report_id = report.report_id
    wire.command_id = report.command_id
    wire.training_run_id = report.training_run_id
    wire.seed_id = report.seed_id
    wire.blueprint_id = report.blueprint_id
    wire.outcome = report.outcome.value  # type: ignore[assignment]
    wire.metrics.update(report.metrics)
    wire.observation_window_epochs = report.observation_window_epochs
    issued_at = wire.issued_at
    issued_at.seconds, issued_at.nanos = divmod(report.issued_at, SECOND_NS)
    wire.tamiyo_policy_version = report.tamiyo_policy_version
    add = wire.follow_up_actions.add
    for action in report.follow_up_actions:
        followed = add()
        followed.action_type = action.action_type
        followed.rationale = action.rationale
    wire.notes = report.notes
    return wire.SerializeToString()
