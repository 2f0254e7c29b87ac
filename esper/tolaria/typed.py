"""Values to JSON and back, by the types that they are declared with; tensors go beside it under names.

    a dataclass or struct   a table of its fields, all of them, no other
    one of several structs  {"is": its name, "of": the table}
    a set                   a sorted list
    a mapping               a table, or a list of pairs if its keys are no text
    a float                 a number; NaN and infinity by their bits, in hexadecimal
    a tensor                [name, dtype, shape]
    anything (Any)          as it is, or a table with one key that says what it is

Nothing is lost, not a bit and not a type; and nothing that is read can run, since it is read by what is
expected there alone.
"""

import collections.abc
import dataclasses
import math
import struct
import types
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import torch
from torch import Tensor

from esper.kasmina.stream import RandomStream
from esper.tolaria.errors import TrainerError
from esper.tolaria.plain import NotPlain

STREAM: Mapping[str, Any] = {"seed": int, "name": str, "flowed": int}
"""The whole state of a seed's random stream."""
SCALARS = (bool, int, float, str, bytes)
TABLES = (dict, collections.abc.Mapping)
LISTS = (tuple, list)


class DamagedRecord(TrainerError, ValueError):
    """A record is not what was written, or of another version; the message says where and why."""


@cache
def fields_of(kind: type) -> Mapping[str, Any] | None:
    """The fields of a dataclass or struct with their types; None for anything else."""
    if kind is RandomStream:
        return STREAM
    if dataclasses.is_dataclass(kind):
        names = tuple(field.name for field in dataclasses.fields(kind))
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        names = kind.__struct_fields__
    else:
        return None
    hints = get_type_hints(kind)
    return {name: hints[name] for name in names}


class Writer:
    """Writes values; `tensors` are those that were met, as they are."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def write(self, value: Any, kind: Any, path: str) -> Any:
        """`value`, declared to be a `kind`, as JSON.

        Raises:
            NotPlain: there is something in it that can't be written, or is not what it is declared to be.
        """
        chosen = _one_of(kind)
        if chosen is not None:
            return self._choice(value, chosen, path)
        if kind is Tensor:
            return self._tensor(value, path)
        origin, arguments = get_origin(kind) or kind, get_args(kind)
        if origin in TABLES and isinstance(value, Mapping):
            key_kind, kinds = arguments
            pairs = [
                (self.write(key, key_kind, path), self.write(one, kinds, f"{path}/{key}"))
                for key, one in value.items()
            ]
            return dict(pairs) if key_kind is str else [list(pair) for pair in pairs]
        if origin in LISTS and type(value) is origin:
            kinds = _kinds(origin, arguments, len(value))
            if kinds is None:
                raise NotPlain(f"{path} has {len(value)} entries")
            return [
                self.write(one, its, f"{path}[{i}]")
                for i, (one, its) in enumerate(zip(value, kinds, strict=True))
            ]
        if origin is frozenset and type(value) is frozenset:
            return sorted((self.write(one, arguments[0], path) for one in value), key=repr)
        return self._leaf(value, kind, origin, path)

    def _leaf(self, value: Any, kind: Any, origin: Any, path: str) -> Any:
        if kind is Any or kind is object or origin is Literal:
            return self._free(value, path)
        fields = fields_of(kind)
        if fields is not None and type(value) is kind:
            return {
                name: self.write(getattr(value, name), its, f"{path}.{name}") for name, its in fields.items()
            }
        if kind is float and isinstance(value, float):
            return float(value) if math.isfinite(value) else _bits(value)
        if kind is float and type(value) is int:
            return value
        if kind in SCALARS and type(value) is kind:
            return value.hex() if kind is bytes else value
        if isinstance(kind, type) and issubclass(kind, Enum) and isinstance(value, kind):
            return value.value
        raise NotPlain(f"{path} ({type(value).__name__})")

    def _choice(self, value: Any, kinds: tuple[Any, ...], path: str) -> Any:
        if value is None and type(None) in kinds:
            return None
        others = _without_none(kinds)
        if len(others) == 1:
            return self.write(value, others[0], path)
        if all(fields_of(kind) is not None for kind in others) and type(value) in others:
            return {"is": type(value).__name__, "of": self.write(value, type(value), path)}
        return self._free(value, path)

    def _tensor(self, value: Any, path: str) -> list[Any]:
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
            raise NotPlain(f"{path} ({type(value).__name__})")
        name = path
        while name in self.tensors:  # a name with a slash in it may look like a path
            name += "~"
        self.tensors[name] = value.detach().contiguous()
        return [name, _name(value.dtype), list(value.shape)]

    def _free(self, value: Any, path: str) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": _bits(value)}
        if type(value) is list:
            return [self._free(one, f"{path}[{i}]") for i, one in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": [self._free(one, f"{path}[{i}]") for i, one in enumerate(value)]}
        if type(value) in (dict, Counter):
            pairs = [[self._free(key, path), self._free(one, f"{path}/{key}")] for key, one in value.items()]
            return {"dict" if type(value) is dict else "counter": pairs}
        if type(value) is bytes:
            return {"bytes": value.hex()}
        if isinstance(value, Tensor):
            return {"tensor": self._tensor(value, path)}
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return {"array": self._tensor(torch.from_numpy(value.copy()), path)}
        raise NotPlain(f"{path} ({type(value).__name__})")


class Reader:
    """Reads what a `Writer` wrote, with the tensors that it named."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.left = dict(tensors)
        """The tensors that nothing has named yet."""

    def read(self, data: Any, kind: Any, path: str) -> Any:
        """The value that `data` stands for, which is a `kind`.

        Raises:
            DamagedRecord: it is none.
        """
        chosen = _one_of(kind)
        if chosen is not None:
            return self._choice(data, chosen, path)
        if kind is Tensor:
            return self._tensor(data, path)
        origin, arguments = get_origin(kind) or kind, get_args(kind)
        if origin in TABLES:
            key_kind, value_kind = arguments
            return self._table(data, key_kind, value_kind, path)
        if origin in LISTS:
            kinds = _kinds(origin, arguments, len(_list(data, path)))
            if kinds is None:
                raise damaged(path, f"it has {len(data)} entries")
            return origin(
                self.read(one, its, f"{path}[{i}]")
                for i, (one, its) in enumerate(zip(data, kinds, strict=True))
            )
        if origin is frozenset:
            return _made(
                lambda: frozenset(self.read(one, arguments[0], path) for one in _list(data, path)), path
            )
        return self._leaf(data, kind, origin, path)

    def struct(self, data: Any, fields: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The values of a table that has exactly these fields."""
        if not isinstance(data, dict) or data.keys() != fields.keys():
            odd = sorted(data.keys() ^ fields.keys()) if isinstance(data, dict) else ["no table"]
            raise damaged(path, f"its fields are not those that there should be: {', '.join(odd[:3])}")
        return {name: self.read(data[name], its, f"{path}.{name}") for name, its in fields.items()}

    def _leaf(self, data: Any, kind: Any, origin: Any, path: str) -> Any:
        if kind is Any or kind is object:
            return self._free(data, path)
        if origin is Literal:
            return _allowed(self._free(data, path), get_args(kind), path)
        fields = fields_of(kind)
        if fields is not None:
            return _made(lambda: kind(**self.struct(data, fields, path)), path)
        if kind is float:
            return _float(data, path)
        if kind is bytes:
            return _made(lambda: bytes.fromhex(data), path)
        if kind in SCALARS and type(data) is kind:
            return data
        if isinstance(kind, type) and issubclass(kind, Enum) and type(data) in (int, str):
            return _made(lambda: kind(data), path)
        raise damaged(path, f"there is a {type(data).__name__} where {_told(kind)} should be")

    def _choice(self, data: Any, kinds: tuple[Any, ...], path: str) -> Any:
        if data is None and type(None) in kinds:
            return None
        others = _without_none(kinds)
        if len(others) == 1:
            return self.read(data, others[0], path)
        if all(fields_of(kind) is not None for kind in others):
            named = {kind.__name__: kind for kind in others}
            match data:
                case {"is": str(name), "of": inner, **rest} if name in named and not rest:
                    return self.read(inner, named[name], path)
            raise damaged(path, f"it is none of {', '.join(named)}")
        return self._free(data, path)

    def _table(self, data: Any, key_kind: Any, kind: Any, path: str) -> dict[Any, Any]:
        if key_kind is str:
            if not isinstance(data, dict):
                raise damaged(path, "it is no table")
            return {key: self.read(one, kind, f"{path}/{key}") for key, one in data.items()}
        return dict(self._pairs(data, key_kind, kind, path))

    def _pairs(self, data: Any, key_kind: Any, kind: Any, path: str) -> list[tuple[Any, Any]]:
        pairs = [_list(pair, path) for pair in _list(data, path)]
        if any(len(pair) != 2 for pair in pairs):
            raise damaged(path, "it is no list of pairs")
        found = [
            (self.read(key, key_kind, path), self.read(one, kind, f"{path}/{key}")) for key, one in pairs
        ]
        if len(_made(lambda: dict(found), path)) < len(found):
            raise damaged(path, "a key is there twice")
        return found

    def _tensor(self, data: Any, path: str) -> Tensor:
        match data:
            case [str(name), str(dtype), list(shape)] if name in self.left:
                tensor = self.left.pop(name)
            case _:
                raise damaged(path, "its tensor is not there")
        if dtype != _name(tensor.dtype) or shape != list(tensor.shape):
            raise damaged(path, f"its tensor is {_name(tensor.dtype)} of shape {tuple(tensor.shape)}")
        return tensor

    def _free(self, data: Any, path: str) -> Any:
        if data is None or type(data) in (bool, int, float, str):
            return data
        if isinstance(data, list):
            return [self._free(one, f"{path}[{i}]") for i, one in enumerate(data)]
        match data:
            case {"float": str(bits), **rest} if not rest:
                return _float(bits, path)
            case {"tuple": list(items), **rest} if not rest:
                return tuple(self._free(items, path))
            case {"dict": pairs, **rest} if not rest:
                return dict(self._pairs(pairs, Any, Any, path))
            case {"counter": pairs, **rest} if not rest:
                return Counter(dict(self._pairs(pairs, Any, int, path)))
            case {"bytes": str(text), **rest} if not rest:
                return _made(lambda: bytes.fromhex(text), path)
            case {"tensor": reference, **rest} if not rest:
                return self._tensor(reference, path)
            case {"array": reference, **rest} if not rest:
                return self._tensor(reference, path).numpy().copy()
        raise damaged(path, "it is no kind of data that is written")


def damaged(path: str, why: str) -> DamagedRecord:
    """What to raise about what is at `path`."""
    return DamagedRecord(f"the record is damaged at {path}: {why}")


def _one_of(kind: Any) -> tuple[Any, ...] | None:
    """The kinds of a union; None if it is no union."""
    return get_args(kind) if isinstance(kind, types.UnionType) or get_origin(kind) is Union else None


def _without_none(kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(kind for kind in kinds if kind is not type(None))


def _kinds(origin: Any, arguments: tuple[Any, ...], count: int) -> tuple[Any, ...] | None:
    """The kind of each of `count` entries; None if there can't be so many."""
    if origin is list or arguments[-1:] == (...,):
        return (arguments[0],) * count
    return arguments if len(arguments) == count else None


def _bits(value: float) -> str:
    return struct.pack(">d", value).hex()


def _float(data: Any, path: str) -> float:
    if type(data) in (float, int):
        number: float = data
        return number
    if isinstance(data, str) and len(data) == 16:
        value: float = _made(lambda: struct.unpack(">d", bytes.fromhex(data))[0], path)
        return value
    raise damaged(path, f"there is a {type(data).__name__} where a number should be")


def _list(data: Any, path: str) -> list[Any]:
    if not isinstance(data, list):
        raise damaged(path, "it is no list")
    return data


def _allowed(value: Any, values: tuple[Any, ...], path: str) -> Any:
    if value not in values:
        raise damaged(path, f"it is none of {', '.join(map(str, values))}")
    return value


def _made(make: Callable[[], Any], path: str) -> Any:
    try:
        return make()
    except DamagedRecord:
        raise
    except (TypeError, ValueError, struct.error) as error:
        raise damaged(path, str(error)) from error


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _told(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
