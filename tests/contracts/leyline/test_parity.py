"""A field, enum value or message that only one side has is found, whichever side it is."""

from collections.abc import Callable
from enum import IntEnum

import msgspec
import pytest
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from contracts.leyline import leyline_pb2 as pb
from contracts.leyline.emit import mapping
from contracts.leyline.parity import Parity
from contracts.leyline.table import DETAILS, ENUMS, MESSAGES, WireEnum
from contracts.messages import CommandRollback, HealthStatus


def message(file: FileDescriptorProto, name: str) -> DescriptorProto:
    return next(one for one in file.message_type if one.name == name)


def changed(change: Callable[[FileDescriptorProto], object]) -> FileDescriptor:
    """Leyline's descriptors with something changed in them."""
    file = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    change(file)
    pool = DescriptorPool()
    for known in (timestamp_pb2, duration_pb2, struct_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name)


def differences(file: FileDescriptor) -> list[str]:
    return list(Parity(MESSAGES, DETAILS, ENUMS).differences(file))


def test_structs_and_messages_agree() -> None:
    assert differences(pb.DESCRIPTOR) == []
    assert differences(changed(lambda file: None)) == []


def _add_field(file: FileDescriptorProto) -> None:
    message(file, "SeedState").field.add(
        name="colour",
        number=9,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )


def _rename_field(file: FileDescriptorProto) -> None:
    message(file, "SeedState").field[0].name = "seed_name"


def _retype_field(file: FileDescriptorProto) -> None:
    message(file, "SeedState").field[4].type = FieldDescriptorProto.TYPE_FLOAT


def _repeat_field(file: FileDescriptorProto) -> None:
    message(file, "SystemStatePacket").field[5].label = FieldDescriptorProto.LABEL_REPEATED


def _single_field(file: FileDescriptorProto) -> None:
    message(file, "SystemStatePacket").field[7].label = FieldDescriptorProto.LABEL_OPTIONAL


def _drop_member(file: FileDescriptorProto) -> None:
    del message(file, "AdaptationCommand").field[9]


def _rename_member(file: FileDescriptorProto) -> None:
    message(file, "AdaptationCommand").field[9].name = "breaker"


def _add_value(file: FileDescriptorProto) -> None:
    file.enum_type[0].value.add(name="SEED_STAGE_ASLEEP", number=12)


def _move_value(file: FileDescriptorProto) -> None:
    file.enum_type[0].value[3].number = 13


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_add_field, ["SeedState's field colour is on the wire only"]),
        (
            _rename_field,
            [
                "SeedState's field seed_id is in this process only",
                "SeedState's field seed_name is on the wire only",
            ],
        ),
        (_retype_field, ["SeedState.layer_depth is <class 'int'> here; the wire wants <class 'float'>"]),
        (_repeat_field, ["SystemStatePacket.hardware_context is"]),
        (_single_field, ["SystemStatePacket.seed_states is"]),
        (_drop_member, ["AdaptationCommand.payload is"]),
        (_rename_member, ["AdaptationCommand.breaker is tagged circuit_breaker in the struct"]),
        (lambda file: file.message_type.add(name="Rumour"), ["message Rumour is on the wire only"]),
        (lambda file: file.message_type.pop(-1), ["message SystemLimits is in this process only"]),
        (_add_value, ["SeedLifecycleStage's value SEED_STAGE_ASLEEP is on the wire only"]),
        (_move_value, ["SEED_STAGE_TRAINING is 13 on the wire and 3 in this process"]),
        (
            lambda file: file.enum_type[0].value.pop(-1),
            ["SeedLifecycleStage's value SEED_STAGE_TERMINATED is in this process only"],
        ),
    ],
)
def test_a_difference_on_the_wire_is_found_and_nothing_is_generated(
    change: Callable[[FileDescriptorProto], object], found: list[str]
) -> None:
    file = changed(change)
    lines = sorted(differences(file))
    assert len(lines) == len(found)
    assert all(part in line for part, line in zip(found, lines, strict=True))
    with pytest.raises(ValueError, match="differ"):
        mapping(file)


class Moods(IntEnum):
    UNKNOWN = 0
    HEALTHY = 1


class Lean(msgspec.Struct, frozen=True):
    """A `MitigationAction` without its rationale."""

    action_type: str


class Wide(msgspec.Struct, frozen=True):
    """A `MitigationAction` with something more."""

    action_type: str
    rationale: str
    cost: float


class Odd(msgspec.Struct, frozen=True):
    """A `MitigationAction` whose rationale may be missing, which the wire can't say."""

    action_type: str
    rationale: str | None


@pytest.mark.parametrize(
    ("struct", "found"),
    [
        (Lean, "MitigationAction's field rationale is on the wire only"),
        (Wide, "MitigationAction's field cost is in this process only"),
        (Odd, "MitigationAction.rationale is str | None here; the wire wants <class 'str'>"),
    ],
)
def test_a_difference_in_a_struct_is_found(struct: type[msgspec.Struct], found: str) -> None:
    parity = Parity({**MESSAGES, "MitigationAction": struct}, DETAILS, ENUMS)
    own = [line for line in parity.differences(pb.DESCRIPTOR) if "follow_up_actions" not in line]
    assert own == [found]


def test_a_difference_in_an_enum_or_in_the_table_is_found() -> None:
    missing = Parity(MESSAGES, DETAILS, {**ENUMS, "HealthStatus": WireEnum(Moods, "HEALTH_STATUS_")})
    lines = list(missing.differences(pb.DESCRIPTOR))
    assert sum("is on the wire only" in line for line in lines) == 3, "three values"
    misspelt = Parity(MESSAGES, DETAILS, {**ENUMS, "HealthStatus": WireEnum(HealthStatus, "HEALTH_")})
    assert "HealthStatus's value HEALTH_HEALTHY is in this process only" in misspelt.differences(
        pb.DESCRIPTOR
    )
    fewer = Parity({name: one for name, one in MESSAGES.items() if name != "TraceSpan"}, DETAILS, ENUMS)
    assert "message TraceSpan is on the wire only" in fewer.differences(pb.DESCRIPTOR)


def test_the_details_are_one_field() -> None:
    class Details(msgspec.Struct, frozen=True, tag="rollback_payload"):
        details: dict[str, float] = {}

    assert any(
        "Details should have" in line for line in Parity(MESSAGES, Details, ENUMS).differences(pb.DESCRIPTOR)
    )
    assert CommandRollback is DETAILS
