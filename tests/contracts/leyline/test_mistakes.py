"""What can't travel is refused on the way out, by the name of its field; nothing is cut to fit."""

import math
from collections.abc import Iterator

import msgspec
import pytest

from bench.messages import COMMAND, REPORT, STATE, TELEMETRY
from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.envelopes import BusEnvelope, BusMessageType, EventEnvelope
from contracts.leyline.codec import decode, encode
from contracts.leyline.values import DEPTH_MAX, DURATION_MAX_S, SECOND_NS, TIME_MAX_S, TIME_MIN_S
from contracts.lifecycle import Stage
from contracts.messages import (
    CommandRollback,
    CommandType,
    HardwareContext,
    HealthStatus,
    MetricPoint,
    MitigationAction,
    SeedState,
    SystemHealth,
    TelemetryPacket,
)
from contracts.wire import FRAME_BYTES_MAX, WireError
from tests.contracts.leyline.frames import canonical

SURROGATE = "half a pair: \ud800"
ENVELOPE = EventEnvelope("e", "t", "tolaria", 0, payload=b"x", routing_keys=("a", "b"))
BLUEPRINT = BlueprintDescriptor(
    "BP001", "identity", BlueprintTier.SAFE, "", {"size": BlueprintParameterBounds(0.0, 1.0)}
)


def changed(message: msgspec.Struct, **fields: object) -> msgspec.Struct:
    """A copy with fields that need not fit their types: structs do not check."""
    return msgspec.structs.replace(message, **fields)


def rollback(value: object) -> msgspec.Struct:
    return changed(COMMAND, payload=CommandRollback({"value": value}))  # type: ignore[dict-item]


def deep(levels: int) -> object:
    value: object = 1.0
    for level in range(levels):
        value = {"inner": value} if level % 2 else [value]
    return value


def seeded(**fields: object) -> msgspec.Struct:
    """A state whose third seed has these fields."""
    seeds = STATE.seed_states
    return changed(STATE, seed_states=(*seeds[:2], changed(seeds[2], **fields), seeds[3]))


def mistakes() -> Iterator[tuple[msgspec.Struct, str]]:
    """A message and what its refusal begins with."""
    state = "SystemStatePacket"
    yield changed(STATE, current_epoch=-1), f"{state}.current_epoch: -1 is outside 0 to 4294967295"
    yield changed(STATE, current_epoch=2**32), f"{state}.current_epoch: 4294967296 is outside 0 to"
    yield changed(STATE, global_step=2**64), f"{state}.global_step: 18446744073709551616 is outside"
    yield changed(STATE, timestamp_ns=-1), f"{state}.timestamp_ns: -1 is outside 0 to 18446744073709551615"
    yield changed(STATE, current_epoch=1.5), f"{state}.current_epoch: a float where an int should be"
    yield changed(STATE, current_epoch="1"), f"{state}.current_epoch: a str where an int should be"
    yield changed(STATE, current_epoch=None), f"{state}.current_epoch: a NoneType where an int should be"
    yield (
        changed(STATE, validation_loss=1e39),
        f"{state}.validation_loss: 1e+39 is too large for a float of 32 bits",
    )
    yield changed(STATE, validation_loss=-3.5e38), f"{state}.validation_loss: -3.5e+38 is too large"
    yield changed(STATE, validation_loss=10**400), f"{state}.validation_loss: 1000000"
    yield changed(STATE, validation_loss="0.5"), f"{state}.validation_loss: a str where a float should be"
    yield changed(STATE, validation_loss=None), f"{state}.validation_loss: a NoneType where a float should be"
    yield (
        changed(STATE, training_metrics={"a": 1.0, "b": 1e39}),
        f"{state}.training_metrics['b']: 1e+39 is too",
    )
    yield changed(STATE, training_metrics={7: 1.0}), f"{state}.training_metrics's key 7: a int where a str"
    yield changed(STATE, training_metrics={SURROGATE: 1.0}), f"{state}.training_metrics's key 'half a pair"
    yield (
        changed(STATE, training_metrics=None),
        f"{state}.training_metrics: a NoneType where a dict should be",
    )
    yield changed(STATE, training_metrics=()), f"{state}.training_metrics: a tuple where a dict should be"
    yield changed(STATE, training_metrics={"a": "1"}), f"{state}.training_metrics['a']: a str where a float"
    yield (
        changed(STATE, hardware_context=None),
        f"{state}.hardware_context: a NoneType where a HardwareContext",
    )
    yield (
        changed(STATE, hardware_context=HardwareContext(device_type=b"cpu")),  # type: ignore[arg-type]
        f"{state}.hardware_context.device_type: a bytes where a str should be",
    )
    yield changed(STATE, version=2), f"{state}.version is 2; this writer knows 1"
    yield changed(STATE, version=0), f"{state}.version is 0; this writer knows 1"
    yield (
        changed(STATE, packet_id=SURROGATE),
        f"{state}.packet_id: no UTF-8: surrogates not allowed at its character 13",
    )
    yield changed(STATE, packet_id=None), f"{state}.packet_id: a NoneType where a str should be"
    yield changed(STATE, seed_states=None), f"{state}.seed_states: a NoneType where a tuple should be"
    yield (
        changed(STATE, seed_states=(TELEMETRY,)),
        f"{state}.seed_states[0]: a TelemetryPacket where a SeedState",
    )
    yield seeded(stage=12), f"{state}.seed_states[2].stage: 12 is no Stage"
    yield seeded(stage="TRAINING"), f"{state}.seed_states[2].stage: 'TRAINING' is no Stage"
    yield seeded(layer_depth=-1), f"{state}.seed_states[2].layer_depth: -1 is outside"
    yield seeded(metrics={"alpha": 1e300}), f"{state}.seed_states[2].metrics['alpha']: 1e+300 is too large"
    command = "AdaptationCommand"
    yield changed(COMMAND, command_type=8), f"{command}.command_type: 8 is no CommandType"
    yield (
        changed(COMMAND, issued_at=(TIME_MAX_S + 1) * SECOND_NS),
        f"{command}.issued_at: 253402300800000000000 is",
    )
    yield (
        changed(COMMAND, issued_at=TIME_MIN_S * SECOND_NS - 1),
        f"{command}.issued_at: -62135596800000000001 is",
    )
    yield changed(COMMAND, issued_at=1.5), f"{command}.issued_at: a float where an int should be"
    yield (
        changed(COMMAND, payload=STATE),
        f"{command}.payload: a SystemState, which is none of seed_operation, opt",
    )
    yield changed(COMMAND, payload={}), f"{command}.payload: a dict, which is none of"
    yield (
        changed(COMMAND, annotations={"site": 3}),
        f"{command}.annotations['site']: a int where a str should be",
    )
    yield changed(COMMAND, annotations={"site": b"x"}), f"{command}.annotations['site']: a bytes where a str"
    yield changed(COMMAND, annotations={"site": SURROGATE}), f"{command}.annotations['site']: no UTF-8"
    yield changed(COMMAND, payload=CommandRollback(None)), f"{command}.payload.details: a NoneType"  # type: ignore[arg-type]
    yield (
        rollback(2**53 + 1),
        f"{command}.payload.details['value']: 9007199254740993 is an int that no double",
    )
    yield rollback(10**400), f"{command}.payload.details['value']: 1000"
    yield rollback((1.0,)), f"{command}.payload.details['value']: a tuple is no JSON-like value"
    yield rollback([{"deeper": b""}]), f"{command}.payload.details['value'][0]['deeper']: a bytes is no"
    yield rollback({"deeper": {1: 2}}), f"{command}.payload.details['value']['deeper']'s key 1: a int"
    yield rollback(SURROGATE), f"{command}.payload.details['value']: no UTF-8"
    yield rollback(deep(DEPTH_MAX)), f"{command}.payload.details['value']"
    yield rollback(deep(1000)), f"{command}.payload.details['value']"
    yield (
        changed(REPORT, follow_up_actions=(MitigationAction(1),)),
        "FieldReport.follow_up_actions[0].action_type: a",
    )  # type: ignore[arg-type]
    yield (
        changed(TELEMETRY, metrics=(MetricPoint("n", 2**53 + 1),)),
        "TelemetryPacket.metrics[0].value: 90071992",
    )
    yield (
        changed(TELEMETRY, metrics=(MetricPoint("n", "1"),)),
        "TelemetryPacket.metrics[0].value: a str where",
    )  # type: ignore[arg-type]
    yield (
        changed(TELEMETRY, system_health=7),
        "TelemetryPacket.system_health: a int where a SystemHealth should be",
    )
    yield (
        changed(TELEMETRY, system_health=SystemHealth(9)),
        "TelemetryPacket.system_health.status: 9 is no Health",
    )  # type: ignore[arg-type]
    envelope = "EventEnvelope"
    yield changed(ENVELOPE, ttl=(DURATION_MAX_S * SECOND_NS) + 1), f"{envelope}.ttl: 315576000000000000001 is"
    yield changed(ENVELOPE, ttl=0.5), f"{envelope}.ttl: a float where an int should be"
    yield changed(ENVELOPE, payload="x"), f"{envelope}.payload: a str where bytes should be"
    yield changed(ENVELOPE, payload=bytearray(b"x")), f"{envelope}.payload: a bytearray where bytes should be"
    yield changed(ENVELOPE, routing_keys="ab"), f"{envelope}.routing_keys: a str where a tuple should be"
    yield changed(ENVELOPE, routing_keys=("a", 1)), f"{envelope}.routing_keys[1]: a int where a str should be"
    blueprint = "BlueprintDescriptor"
    yield changed(BLUEPRINT, quarantine_only=2), f"{blueprint}.quarantine_only: 2 is no bool"
    yield changed(BLUEPRINT, quarantine_only="no"), f"{blueprint}.quarantine_only: 'no' is no bool"
    yield (
        changed(BLUEPRINT, allowed_parameters={"a": 1.0}),
        f"{blueprint}.allowed_parameters['a']: a float where",
    )
    yield (
        changed(BLUEPRINT, allowed_parameters={"a": BlueprintParameterBounds(0.0, 2**80 + 1)}),
        f"{blueprint}.allowed_parameters['a'].max_value: 12089258196146291747061",
    )


@pytest.mark.parametrize(("message", "text"), [pytest.param(*case, id=case[1][:60]) for case in mistakes()])
def test_a_mistake_is_refused_by_the_name_of_its_field(message: msgspec.Struct, text: str) -> None:
    with pytest.raises(WireError) as refusal:
        encode(message)
    assert str(refusal.value).startswith(text)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("message", [None, 7, b"", Stage.CULLED, CommandRollback(), object()])
def test_what_is_no_message_of_leyline_is_refused(message: object) -> None:
    with pytest.raises(WireError, match="is no message of Leyline"):
        encode(message)  # type: ignore[arg-type]


def test_a_message_that_makes_too_large_a_frame_is_refused_by_its_size_or_its_parts() -> None:
    full = BusEnvelope(BusMessageType.TELEMETRY, b"x" * (FRAME_BYTES_MAX - 6))
    assert len(encode(full)) == FRAME_BYTES_MAX
    with pytest.raises(WireError, match=f"BusEnvelope: {FRAME_BYTES_MAX + 1} bytes; a frame holds at most"):
        encode(BusEnvelope(BusMessageType.TELEMETRY, b"x" * (FRAME_BYTES_MAX - 5)))
    points = tuple(MetricPoint("n", 1.0) for _ in range(9000))
    with pytest.raises(WireError, match="more than 8192 messages"):
        encode(TelemetryPacket("p", 0, "tolaria", metrics=points))


def test_the_edges_travel() -> None:
    """The largest and smallest of each, infinity, NaN, and an int where a float should be."""
    largest = 3.4028234663852886e38
    state = changed(
        STATE,
        current_epoch=2**32 - 1,
        global_step=2**64 - 1,
        timestamp_ns=2**64 - 1,
        validation_loss=largest,
        training_loss=-math.inf,
        validation_accuracy=math.nan,
        training_metrics={"": math.inf, "nan": math.nan, "zero": -0.0, "small": 1e-45, "large": -largest},
    )
    back = decode(type(state), encode(state))
    assert canonical(changed(back, training_metrics={})) == canonical(changed(state, training_metrics={}))
    assert repr(sorted(back.training_metrics.items())) == repr(
        sorted({**state.training_metrics, "small": 2.0**-149}.items())  # type: ignore[attr-defined]
    )
    assert decode(SeedState, encode(SeedState("s", Stage.CULLED, risk_score=1))).risk_score == 1.0
    assert decode(MetricPoint, encode(MetricPoint("n", 2**53))).value == 2.0**53


def test_a_float_is_rounded_to_32_bits_and_to_no_less() -> None:
    seed = decode(SeedState, encode(SeedState("s", Stage.CULLED, risk_score=0.1)))
    assert seed.risk_score == 0.10000000149011612
    assert decode(MetricPoint, encode(MetricPoint("n", 0.1))).value == 0.1, "a double is not"


def test_details_keep_every_kind_of_value() -> None:
    details = {
        "none": None,
        "flags": [True, False],
        "numbers": [0.0, -1.5, 1e300, 2.0**53],
        "texts": ["", "ü"],
        "empty": [[], {}, [[]], {"": {}}],
        "deep": deep(DEPTH_MAX - 1),
    }
    command = changed(COMMAND, command_type=CommandType.ROLLBACK, payload=CommandRollback(details))  # type: ignore[arg-type]
    assert canonical(decode(type(command), encode(command))) == canonical(command)
    whole = decode(type(command), encode(rollback(7)))
    assert canonical(whole.payload.details) == canonical({"value": 7.0}), "a number is a double"


def test_unset_is_not_empty() -> None:
    for message in (
        changed(TELEMETRY, system_health=None),
        changed(TELEMETRY, system_health=SystemHealth(HealthStatus.UNKNOWN)),
    ):
        assert canonical(decode(TelemetryPacket, encode(message))) == canonical(message)
    for payload in (None, CommandRollback()):
        command = changed(COMMAND, payload=payload)
        assert canonical(decode(type(command), encode(command))) == canonical(command)
    for ttl in (None, 0, -1, 1):
        envelope = changed(ENVELOPE, ttl=ttl)
        assert canonical(decode(EventEnvelope, encode(envelope))) == canonical(envelope)


def test_the_usual_messages_stay_under_280_bytes() -> None:
    sizes = [len(encode(message)) for message in (COMMAND, TELEMETRY, REPORT)]
    assert all(100 < size < 280 for size in sizes), sizes
    assert 400 < len(encode(STATE)) < 700, "ten named metrics and four seeds are more"
