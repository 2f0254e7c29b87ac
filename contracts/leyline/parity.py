"""Where the structs and the descriptors differ: every field, enum value and message, in both directions."""

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from typing import get_type_hints

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, OneofDescriptor

from contracts.leyline.kinds import Kind, enum_of, is_map, kind_of, message_of, value_of
from contracts.leyline.table import WireEnum
from contracts.messages import JsonValue

_PLAIN: dict[Kind, object] = {
    Kind.TEXT: str,
    Kind.BYTES: bytes,
    Kind.FLAG: bool,
    Kind.FLOAT: float,
    Kind.DOUBLE: float,
    Kind.UINT32: int,
    Kind.UINT64: int,
    Kind.TIME: int,
    Kind.DURATION: int,
}


class Parity(msgspec.Struct, frozen=True):
    """The structs that stand for the messages of one file."""

    messages: Mapping[str, type[msgspec.Struct]]
    details: type[msgspec.Struct]
    enums: Mapping[str, WireEnum]

    def differences(self, file: FileDescriptor) -> Iterator[str]:
        """One line for each thing that one side has and the other has not, or has otherwise."""
        yield from _only("message", file.message_types_by_name, self.messages)
        yield from _only("enum", file.enum_types_by_name, self.enums)
        for name in self.enums.keys() & file.enum_types_by_name.keys():
            there = {value.name: value.number for value in file.enum_types_by_name[name].values}
            yield from _enum_differences(name, there, self.enums[name])
        for name in self.messages.keys() & file.message_types_by_name.keys():
            yield from self._message_differences(file.message_types_by_name[name], self.messages[name])
        if get_type_hints(self.details) != {"details": dict[str, JsonValue]}:
            yield f"{self.details.__name__} should have one field, details: dict[str, JsonValue]"

    def _message_differences(self, message: Descriptor, struct: type[msgspec.Struct]) -> Iterator[str]:
        hints = get_type_hints(struct)
        wanted = {field.name: self._types(field) for field in message.fields if not field.containing_oneof}
        wanted |= {oneof.name: (self._union(oneof),) for oneof in message.oneofs}
        yield from _only(f"{message.name}'s field", wanted, hints)
        for name in wanted.keys() & hints.keys():
            if hints[name] not in wanted[name]:
                yield f"{message.name}.{name} is {hints[name]} here; the wire wants {wanted[name][0]}"
        for oneof in message.oneofs:
            for field in oneof.fields:
                tag = self._one(field).__struct_config__.tag  # type: ignore[attr-defined]
                if tag != field.name:
                    yield f"{message.name}.{field.name} is tagged {tag} in the struct"

    def _types(self, field: FieldDescriptor) -> tuple[object, ...]:
        """The annotations that a field may have in its struct."""
        if is_map(field):
            return (dict[str, self._one(value_of(field))],)  # type: ignore[misc]
        one = self._one(field)
        if field.is_repeated:
            return (tuple[one, ...],)  # type: ignore[valid-type]
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            return one, one | None  # type: ignore[operator]
        return (one,)

    def _one(self, field: FieldDescriptor) -> object:
        kind = kind_of(field)
        if kind is Kind.ENUM:
            enum = self.enums.get(enum_of(field).name)
            return enum.type if enum is not None else None
        if kind is Kind.MESSAGE:
            return self.messages.get(message_of(field).name)
        return self.details if kind is Kind.DETAILS else _PLAIN[kind]

    def _union(self, oneof: OneofDescriptor) -> object:
        return reduce(or_, (self._one(field) for field in oneof.fields)) | None  # type: ignore[operator]


def _only(what: str, wire: Mapping[str, object], here: Mapping[str, object]) -> Iterator[str]:
    yield from (f"{what} {name} is on the wire only" for name in wire.keys() - here.keys())
    yield from (f"{what} {name} is in this process only" for name in here.keys() - wire.keys())


def _enum_differences(name: str, there: Mapping[str, int], here: WireEnum) -> Iterator[str]:
    numbers = {f"{here.prefix}{value.name}": int(value) for value in here.type}
    yield from _only(f"{name}'s value", there, numbers)
    for value in there.keys() & numbers.keys():
        if there[value] != numbers[value]:
            yield f"{name}'s value {value} is {there[value]} on the wire and {numbers[value]} in this process"
