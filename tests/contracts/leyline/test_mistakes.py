"""What can't travel is refused on the way out, by the name of its field; nothing is cut to fit."""

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeAlias, TypeVar

import msgspec
import pytest

from bench.messages import COMMAND, REPORT, STATE, TELEMETRY, USUAL_REPORT, USUAL_TELEMETRY
from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from contracts.envelopes import BusEnvelope, BusMessageType, EventEnvelope
from contracts.leyline.codec import decode, encode
from contracts.leyline.values import DEPTH_MAX, DURATION_MAX_S, SECOND_NS, TIME_MAX_S, TIME_MIN_S
from contracts.lifecycle import Stage
from contracts.messages import (
    AdaptationCommand,
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


S = TypeVar("S", bound=msgspec.Struct)
Fields: TypeAlias = dict[str, object]
"""By name; they need not fit their types."""


def changed(message: S, **fields: object) -> S:
    """A copy with fields that need not fit their types: structs do not check."""
    return msgspec.structs.replace(message, **fields)


def rollback(value: object) -> AdaptationCommand:
    return changed(COMMAND, payload=changed(CommandRollback(), details={"value": value}))


def deep(levels: int) -> object:
    value: object = 1.0
    for level in range(levels):
        value = {"inner": value} if level % 2 else [value]
    return value


def seeded(fields: Fields) -> msgspec.Struct:
    """A state whose third seed has these fields."""
    seeds = STATE.seed_states
    return changed(STATE, seed_states=(*seeds[:2], changed(seeds[2], **fields), seeds[3]))


OF_STATE: tuple[tuple[Fields, str], ...] = (
    ({"current_epoch": -1}, ".current_epoch: -1 is outside 0 to 4294967295"),
    ({"current_epoch": 2**32}, ".current_epoch: 4294967296 is outside 0 to"),
    ({"global_step": 2**64}, ".global_step: 18446744073709551616 is outside"),
    ({"timestamp_ns": -1}, ".timestamp_ns: -1 is outside 0 to 18446744073709551615"),
    ({"current_epoch": 1.5}, ".current_epoch: a float where an int should be"),
    ({"current_epoch": "1"}, ".current_epoch: a str where an int should be"),
    ({"current_epoch": None}, ".current_epoch: a NoneType where an int should be"),
    ({"validation_loss": 1e39}, ".validation_loss: 1e+39 is too large for a float of 32 bits"),
    ({"validation_loss": -3.5e38}, ".validation_loss: -3.5e+38 is too large"),
    ({"validation_loss": 10**400}, ".validation_loss: 1000000"),
    ({"validation_loss": "0.5"}, ".validation_loss: a str where a float should be"),
    ({"validation_loss": None}, ".validation_loss: a NoneType where a float should be"),
    ({"training_metrics": {"a": 1.0, "b": 1e39}}, ".training_metrics['b']: 1e+39 is too"),
    ({"training_metrics": {7: 1.0}}, ".training_metrics's key 7: a int where a str"),
    ({"training_metrics": {SURROGATE: 1.0}}, ".training_metrics's key 'half a pair"),
    ({"training_metrics": None}, ".training_metrics: a NoneType where a dict should be"),
    ({"training_metrics": ()}, ".training_metrics: a tuple where a dict should be"),
    ({"training_metrics": {"a": "1"}}, ".training_metrics['a']: a str where a float"),
    ({"hardware_context": None}, ".hardware_context: a NoneType where a HardwareContext"),
    (
        {"hardware_context": changed(HardwareContext(), device_type=b"cpu")},
        ".hardware_context.device_type: a bytes where a str should be",
    ),
    ({"version": 2}, ".version is 2; this writer knows 1"),
    ({"version": 0}, ".version is 0; this writer knows 1"),
    ({"packet_id": SURROGATE}, ".packet_id: no UTF-8: surrogates not allowed at its character 13"),
    ({"packet_id": None}, ".packet_id: a NoneType where a str should be"),
    ({"seed_states": None}, ".seed_states: a NoneType where a tuple should be"),
    ({"seed_states": (TELEMETRY,)}, ".seed_states[0]: a TelemetryPacket where a SeedState"),
)
OF_SEED: tuple[tuple[Fields, str], ...] = (
    ({"stage": 12}, ".stage: 12 is no Stage"),
    ({"stage": "TRAINING"}, ".stage: 'TRAINING' is no Stage"),
    ({"layer_depth": -1}, ".layer_depth: -1 is outside"),
    ({"metrics": {"alpha": 1e300}}, ".metrics['alpha']: 1e+300 is too large"),
)
OF_COMMAND: tuple[tuple[Fields, str], ...] = (
    ({"command_type": 8}, ".command_type: 8 is no CommandType"),
    ({"issued_at": (TIME_MAX_S + 1) * SECOND_NS}, ".issued_at: 253402300800000000000 is"),
    ({"issued_at": TIME_MIN_S * SECOND_NS - 1}, ".issued_at: -62135596800000000001 is"),
    ({"issued_at": 1.5}, ".issued_at: a float where an int should be"),
    ({"payload": STATE}, ".payload: a SystemState, which is none of seed_operation, opt"),
    ({"payload": {}}, ".payload: a dict, which is none of"),
    ({"payload": changed(CommandRollback(), details=None)}, ".payload.details: a NoneType"),
    ({"annotations": {"site": 3}}, ".annotations['site']: a int where a str should be"),
    ({"annotations": {"site": b"x"}}, ".annotations['site']: a bytes where a str"),
    ({"annotations": {"site": SURROGATE}}, ".annotations['site']: no UTF-8"),
)
OF_DETAILS: tuple[tuple[object, str], ...] = (
    (2**53 + 1, ": 9007199254740993 is an int that no double"),
    (10**400, ": 1000"),
    ((1.0,), ": a tuple is no JSON-like value"),
    ([{"deeper": b""}], "[0]['deeper']: a bytes is no"),
    ({"deeper": {1: 2}}, "['deeper']'s key 1: a int"),
    (SURROGATE, ": no UTF-8"),
    (deep(DEPTH_MAX), ""),
    (deep(1000), ""),
)
OF_REPORT: tuple[tuple[Fields, str], ...] = (
    (
        {"follow_up_actions": (changed(MitigationAction(""), action_type=1),)},
        ".follow_up_actions[0].action_type: a",
    ),
)
OF_TELEMETRY: tuple[tuple[Fields, str], ...] = (
    ({"metrics": (MetricPoint("n", 2**53 + 1),)}, ".metrics[0].value: 90071992"),
    ({"metrics": (changed(MetricPoint("n", 1.0), value="1"),)}, ".metrics[0].value: a str where"),
    ({"metrics": (changed(MetricPoint("n", 1.0), name=b"n"),)}, ".metrics[0].name: a bytes where"),
    ({"metrics": (changed(MetricPoint("n", 1.0), unit=b""),)}, ".metrics[0].unit: a bytes where"),
    ({"system_health": 7}, ".system_health: a int where a SystemHealth should be"),
    (
        {"system_health": changed(SystemHealth(HealthStatus.UNKNOWN), status=9)},
        ".system_health.status: 9 is no Health",
    ),
)
OF_ENVELOPE: tuple[tuple[Fields, str], ...] = (
    ({"ttl": (DURATION_MAX_S * SECOND_NS) + 1}, ".ttl: 315576000000000000001 is"),
    ({"ttl": 0.5}, ".ttl: a float where an int should be"),
    ({"payload": "x"}, ".payload: a str where bytes should be"),
    ({"payload": bytearray(b"x")}, ".payload: a bytearray where bytes should be"),
    ({"routing_keys": "ab"}, ".routing_keys: a str where a tuple should be"),
    ({"routing_keys": ("a", 1)}, ".routing_keys[1]: a int where a str should be"),
)
OF_BLUEPRINT: tuple[tuple[Fields, str], ...] = (
    ({"quarantine_only": 2}, ".quarantine_only: 2 is no bool"),
    ({"quarantine_only": "no"}, ".quarantine_only: 'no' is no bool"),
    ({"allowed_parameters": {"a": 1.0}}, ".allowed_parameters['a']: a float where"),
    (
        {"allowed_parameters": {"a": BlueprintParameterBounds(0.0, 2**80 + 1)}},
        ".allowed_parameters['a'].max_value: 12089258196146291747061",
    ),
)
BY_MESSAGE: Mapping[str, tuple[msgspec.Struct, tuple[tuple[Fields, str], ...]]] = {
    "SystemStatePacket": (STATE, OF_STATE),
    "AdaptationCommand": (COMMAND, OF_COMMAND),
    "FieldReport": (REPORT, OF_REPORT),
    "TelemetryPacket": (TELEMETRY, OF_TELEMETRY),
    "EventEnvelope": (ENVELOPE, OF_ENVELOPE),
    "BlueprintDescriptor": (BLUEPRINT, OF_BLUEPRINT),
}
"""By its name on the wire: a sound message, what its fields are changed to, and how the refusal goes on."""


def mistakes() -> Iterator[tuple[msgspec.Struct, str]]:
    """A message and what its refusal begins with."""
    for name, (message, table) in BY_MESSAGE.items():
        for fields, text in table:
            yield changed(message, **fields), name + text
    for fields, text in OF_SEED:
        yield seeded(fields), f"SystemStatePacket.seed_states[2]{text}"
    for value, text in OF_DETAILS:
        yield rollback(value), f"AdaptationCommand.payload.details['value']{text}"


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


class Gain(StrEnum):
    LOSS = "loss"


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
        sorted({**state.training_metrics, "small": 2.0**-149}.items())
    )
    assert decode(SeedState, encode(SeedState("s", Stage.CULLED, risk_score=1))).risk_score == 1.0
    assert decode(MetricPoint, encode(MetricPoint("n", 2**53))).value == 2.0**53
    assert decode(MetricPoint, encode(MetricPoint(Gain.LOSS, 1.0, "s"))).name == "loss", (
        "text of its own kind"
    )


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
    assert isinstance(whole.payload, CommandRollback)
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
    sizes = [len(encode(message)) for message in (COMMAND, USUAL_TELEMETRY, USUAL_REPORT)]
    assert all(100 < size < 280 for size in sizes), sizes
    assert 400 < len(encode(STATE)) < 700, "ten named metrics and four seeds are more"
