"""What the wire costs: struct to bytes and back, against protobuf as one writes it by hand.

The plain side builds the same message with nested keyword constructors and serializes it; back, it parses
the bytes and reads every field into tuples and dicts. It checks nothing and refuses nothing. Both sides of
a round run one after the other, and ratios are taken within rounds; `digest` is of what both sides gave.
"""

import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from actors.runtime.interpreter import frozen_heap
from bench.measure import Budget, Size, in_turn, percentiles
from bench.messages import COMMAND, REPORT, STATE, TELEMETRY
from contracts.leyline import leyline_pb2 as pb
from contracts.leyline.codec import decode, encode
from contracts.messages import (
    AdaptationCommand,
    CommandSeedOperation,
    FieldReport,
    SystemState,
    TelemetryPacket,
)

LOOP = ("system_state", "command", "telemetry", "field_report")
BUDGETS = (
    *(Budget(f"{name}.{way}.p99_us", 80.0, "at_most") for name in LOOP for way in ("encode", "decode")),
    *(Budget(f"{name}.encode.ratio_to_plain", 1.5, "at_most") for name in LOOP),
    *(Budget(f"{name}.size_bytes", 279, "at_most") for name in LOOP[1:]),
)
SINGLES = {Size.SMALL: 300, Size.FULL: 20_000}
"""Messages timed one by one."""
ROUNDS = {Size.SMALL: 3, Size.FULL: 101}
PER_ROUND = {Size.SMALL: 20, Size.FULL: 200}
"""Messages of each side in a round."""
SECOND_NS = 1_000_000_000


class Contest(NamedTuple):
    """One message, and how it is written and read by hand."""

    message: msgspec.Struct
    write: Callable[[], bytes]
    read: Callable[[bytes], tuple[object, ...]]


def run(size: Size) -> dict[str, object]:
    """Latencies, ratios and sizes of the four messages of the loop."""
    contests = (
        Contest(STATE, lambda: write_state(STATE), read_state),
        Contest(COMMAND, lambda: write_command(COMMAND), read_command),
        Contest(TELEMETRY, lambda: write_telemetry(TELEMETRY), read_telemetry),
        Contest(REPORT, lambda: write_report(REPORT), read_report),
    )
    return {name: _figures(contest, size) for name, contest in zip(LOOP, contests, strict=True)}


def _figures(contest: Contest, size: Size) -> dict[str, object]:
    message, plain_write, plain_read = contest
    kind, frame = type(message), encode(message)
    values = plain_read(frame)
    assert sorted(frame) == sorted(plain_write()), "the same bytes, but for the order of maps"
    assert values == plain_read(plain_write()) == flat(decode(kind, frame)), "the same values"
    return {
        "size_bytes": len(frame),
        "encode": _one_way(lambda: encode(message), plain_write, size),
        "decode": _one_way(lambda: decode(kind, frame), lambda: plain_read(frame), size),
        "digest": f"{zlib.crc32(msgspec.json.encode(values, order='deterministic')):08x}",
    }


def _one_way(ours: Callable[[], object], plain: Callable[[], object], size: Size) -> dict[str, object]:
    ratio = in_turn(_times(ours, PER_ROUND[size]), _times(plain, PER_ROUND[size]), ROUNDS[size])
    return {
        **percentiles(_singles(ours, SINGLES[size])).figures("us"),
        "plain_p50_us": percentiles(_singles(plain, SINGLES[size])).p50 * 1e6,
        "ratio_to_plain": ratio.median,
        "ratio_to_plain_spread": ratio.spread,
        "rounds": ratio.n,
    }


def _times(work: Callable[[], object], count: int) -> Callable[[], None]:
    def all_of_them() -> None:
        for _ in range(count):
            work()

    return all_of_them


def _singles(work: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of `count` calls; what was allocated before is not looked through meanwhile."""
    took_s = []
    with frozen_heap():
        for _ in range(count):
            start = time.perf_counter()
            work()
            took_s.append(time.perf_counter() - start)
    return took_s


# By hand -------------------------------------------------------------------------------------------


def write_state(state: SystemState) -> bytes:
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


def write_command(command: AdaptationCommand) -> bytes:
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


def write_telemetry(packet: TelemetryPacket) -> bytes:
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


def write_report(report: FieldReport) -> bytes:
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


def flat(value: object) -> object:
    """A struct as the tuple of its fields, and all inside it too."""
    if isinstance(value, msgspec.Struct):
        return tuple(flat(getattr(value, name)) for name in value.__struct_fields__)
    return tuple(map(flat, value)) if isinstance(value, tuple) else value
