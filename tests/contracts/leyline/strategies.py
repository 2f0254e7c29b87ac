"""Any message of Leyline, made from the descriptors: every field, every kind, every bound."""

from functools import cache

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

from contracts.leyline import leyline_pb2 as pb
from contracts.leyline.kinds import Kind, enum_of, is_map, kind_of, message_of, value_of
from contracts.leyline.table import DETAILS, ENUMS, MESSAGES
from contracts.leyline.values import DURATION_MAX_S, SECOND_NS, TIME_MAX_S, TIME_MIN_S

WIRE: dict[str, Descriptor] = dict(pb.DESCRIPTOR.message_types_by_name)
TEXTS = st.text(max_size=6)
TIMES = st.integers(TIME_MIN_S * SECOND_NS, (TIME_MAX_S + 1) * SECOND_NS - 1)
DURATIONS = st.integers(-DURATION_MAX_S * SECOND_NS, DURATION_MAX_S * SECOND_NS)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SCALARS: dict[Kind, st.SearchStrategy[object]] = {
    Kind.TEXT: TEXTS,
    Kind.BYTES: st.binary(max_size=6),
    Kind.FLAG: st.booleans(),
    Kind.FLOAT: st.floats(width=32),
    Kind.DOUBLE: st.floats(),
    Kind.UINT32: st.integers(0, 2**32 - 1),
    Kind.UINT64: st.integers(0, 2**64 - 1),
    Kind.TIME: TIMES,
    Kind.DURATION: st.none() | DURATIONS,
    Kind.DETAILS: st.builds(DETAILS, st.dictionaries(TEXTS, JSON, max_size=3)),
}


@cache
def messages(name: str) -> st.SearchStrategy[msgspec.Struct]:
    """The struct of the message called `name`, with anything in it that can travel."""
    wire = WIRE[name]
    given = {field.name: _field(field) for field in wire.fields if field.containing_oneof is None}
    for oneof in wire.oneofs:
        given[oneof.name] = st.none() | st.one_of([_one(field) for field in oneof.fields])
    if "version" in given:
        given["version"] = st.just(1)
    if name == "TelemetryPacket":
        given["system_health"] = st.none() | given["system_health"]
    return st.builds(MESSAGES[name], **given)


def _field(field: FieldDescriptor) -> st.SearchStrategy[object]:
    if is_map(field):
        return st.dictionaries(TEXTS, _one(value_of(field)), max_size=3)
    if field.is_repeated:
        return st.lists(_one(field), max_size=2).map(tuple)
    return _one(field)


def _one(field: FieldDescriptor) -> st.SearchStrategy[object]:
    kind = kind_of(field)
    if kind is Kind.ENUM:
        return st.sampled_from(ENUMS[enum_of(field).name].type)
    return messages(message_of(field).name) if kind is Kind.MESSAGE else SCALARS[kind]
