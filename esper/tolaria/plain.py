"""Data of others as plain data and back: what a checkpoint can keep, and nothing that could run.

Plain are None, truth values, numbers, text, and lists and tables of them. What else is kept is written
as a table with one key that begins with "$": tuples, tables whose keys are no text, counters, tensors.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

_DTYPES = {
    str(dtype): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool)
}
_DEPTH_MAX = 32


class NotPlain(ValueError):
    """Something that plain data can't hold; the message is its path and its type."""


def kept(values: Mapping[str, object]) -> tuple[dict[str, Plain], tuple[str, ...]]:
    """What of `values` plain data can hold, and what is lost: paths, each with its type.

    What is inside a list is lost with the whole list, so that no position changes its meaning.
    """
    lost: list[str] = []
    return _table(values, "", lost, 0), tuple(lost)


def original(value: Plain) -> object:
    """What `kept` was given, but for what was lost.

    Raises:
        ValueError: it is not what `kept` makes.
    """
    if isinstance(value, list):
        return [original(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    tag = next((key for key in value if key.startswith("$")), None)
    if tag is None:
        return {key: original(inner) for key, inner in value.items()}
    if len(value) != 1:
        raise ValueError(f"a table with the key {tag!r} has other keys too")
    return _tagged(tag, value[tag])


def _table(values: Mapping[str, object], path: str, lost: list[str], depth: int) -> dict[str, Plain]:
    table: dict[str, Plain] = {}
    for key, value in values.items():
        inner = f"{path}.{key}" if path else key
        try:
            table[key] = _plain(value, inner, lost, depth + 1)
        except NotPlain as error:
            lost.append(str(error))
    return table


def _plain(value: object, path: str, lost: list[str], depth: int) -> Plain:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if depth > _DEPTH_MAX:
        raise NotPlain(f"{path} (nested too deep)")
    if isinstance(value, list):
        return list(_items(value, path, lost, depth))
    if isinstance(value, tuple):
        return {"$tuple": list(_items(value, path, lost, depth))}
    if isinstance(value, dict):
        return _mapping(value, path, lost, depth)
    if isinstance(value, Tensor) and str(value.dtype) in _DTYPES:
        return {"$tensor": [str(value.dtype), value.tolist()]}
    raise NotPlain(f"{path} ({type(value).__name__})")


def _items(
    values: list[object] | tuple[object, ...], path: str, lost: list[str], depth: int
) -> Iterator[Plain]:
    for index, value in enumerate(values):
        yield _plain(value, f"{path}.{index}", lost, depth + 1)


def _mapping(value: dict[object, object], path: str, lost: list[str], depth: int) -> Plain:
    if type(value) is dict and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return _table({str(key): inner for key, inner in value.items()}, path, lost, depth)
    tag = "$counter" if isinstance(value, Counter) else "$table"
    pairs: list[Plain] = [
        [_plain(key, path, lost, depth + 1), _plain(inner, f"{path}.{key}", lost, depth + 1)]
        for key, inner in value.items()
    ]
    return {tag: pairs}


def _tagged(tag: str, inner: Plain) -> object:
    match tag, inner:
        case "$tuple", list():
            return tuple(original(item) for item in inner)
        case "$table", list():
            return dict(_pairs(inner))
        case "$counter", list():
            counter: Counter[object] = Counter()
            for key, count in _pairs(inner):
                if not isinstance(count, int):
                    raise ValueError("a counter's count is no whole number")
                counter[key] = count
            return counter
        case "$tensor", [str(dtype), values] if dtype in _DTYPES:
            return torch.tensor(values, dtype=_DTYPES[dtype])
    raise ValueError(f"{tag!r} is no kind of data that is kept, or not as it is kept")


def _pairs(inner: list[Plain]) -> Iterator[tuple[object, object]]:
    for pair in inner:
        match pair:
            case [key, value]:
                yield original(key), original(value)
            case _:
                raise ValueError("a table's entry is no pair")
