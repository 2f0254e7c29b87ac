"""Every number, name and type of the wire is the interface's, from a table apart from `leyline.proto`."""

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from contracts.leyline import leyline_pb2 as pb
from contracts.leyline.kinds import Kind, enum_of, is_map, kind_of, message_of, value_of
from contracts.leyline.table import ENUMS, MESSAGES
from tests.contracts.leyline.strategies import WIRE

_LINES = [
    " ".join(line.split())
    for line in re.sub(r"\n    ", " ", (Path(__file__).with_name("interface.txt")).read_text()).splitlines()
    if line and not line.startswith("#")
]
ENTRIES = dict(line.split(": ", 1) for line in _LINES)
TABLED_ENUMS = {
    name.split()[0]: (name.split()[1], body.split()) for name, body in ENTRIES.items() if " " in name
}
TABLED_MESSAGES = {name: body.split(", ") for name, body in ENTRIES.items() if " " not in name}
_SHORT = {Kind.FLOAT: "f", Kind.TIME: "T", Kind.DURATION: "D", Kind.DETAILS: "Struct"}


def word(field: FieldDescriptor) -> str:
    """A field's type in the table's words."""
    if is_map(field):
        return f"map<string,{word(value_of(field))}>"
    kind = kind_of(field)
    name = _SHORT.get(kind, str(kind))
    if kind is Kind.ENUM:
        name = enum_of(field).name
    if kind is Kind.MESSAGE:
        name = message_of(field).name
    return f"[]{name}" if field.is_repeated else name


def test_the_table_has_every_message_and_every_enum() -> None:
    assert TABLED_MESSAGES.keys() == WIRE.keys() == MESSAGES.keys()
    assert TABLED_ENUMS.keys() == set(pb.DESCRIPTOR.enum_types_by_name) == ENUMS.keys()
    assert (len(TABLED_MESSAGES), len(TABLED_ENUMS)) == (27, 13)


@pytest.mark.parametrize("name", TABLED_ENUMS)
def test_an_enum_s_values_are_those_of_the_table(name: str) -> None:
    prefix, values = TABLED_ENUMS[name]
    there = pb.DESCRIPTOR.enum_types_by_name[name].values
    assert {value.name: value.number for value in there} == {
        f"{prefix}{value}": number for number, value in enumerate(values)
    }
    assert [value.name for value in ENUMS[name].type] == values


@pytest.mark.parametrize("name", TABLED_MESSAGES)
def test_a_message_s_fields_are_those_of_the_table(name: str) -> None:
    tabled = [re.sub(r" = .*", "", field) for field in TABLED_MESSAGES[name]]
    assert [f"{field.number} {field.name} {word(field)}" for field in WIRE[name].fields] == tabled


@pytest.mark.parametrize("name", ["PerformanceBudgets", "MemoryBudgets", "SystemLimits"])
def test_the_budgets_defaults_are_those_of_the_table(name: str) -> None:
    budgets = MESSAGES[name]()
    tabled = {field.split()[1]: float(field.split(" = ")[1]) for field in TABLED_MESSAGES[name]}
    assert {field: getattr(budgets, field) for field in budgets.__struct_fields__} == tabled


def test_what_is_special_in_the_interface_is_so() -> None:
    assert pb.DESCRIPTOR.package == "esper.leyline.v1"
    (payload,) = WIRE["AdaptationCommand"].oneofs
    assert (payload.name, [field.number for field in payload.fields]) == ("payload", [10, 11, 12, 13])
    state = DescriptorProto()
    WIRE["SystemStatePacket"].CopyToProto(state)
    assert [(span.start, span.end) for span in state.reserved_range] == [(100, 200)]
