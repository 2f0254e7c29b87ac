"""A kernel's body: a module's initial values as safetensors, in the one spelling that `weights_of` gives.

A kernel's module is always what its blueprint builds from its stream; the stored values are believed only
where they are the same bits. What is stored can therefore delay a run or help it, but never change it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor, nn

from esper.urza.errors import Damaged, Unfit

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_LENGTH_BYTES = 8
_ENTRY_BYTES_MAX = 256
"""Of one tensor's entry in the header, without its name."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Expected(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


_HEADER = msgspec.json.Decoder(dict[str, _Entry])


def weights_of(module: nn.Module) -> bytes:
    """Every parameter and every buffer that a module's state holds.

    Raises:
        Unfit: the state holds something else than tensors of the known kinds.
    """
    state = _state(module)
    return save({name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()})


def weight_bytes_max(module: nn.Module) -> int:
    """The most bytes that the weights of this module can have, header included."""
    expected = _expected(_state(module))
    header = sum(_ENTRY_BYTES_MAX + 6 * len(name) for name in expected)
    return _LENGTH_BYTES + 8 + header + sum(one.nbytes for one in expected.values())


def load(module: nn.Module, weights: memoryview) -> None:
    """Copy `weights` into a module that was built from the same specification.

    Raises:
        Damaged: names, shapes, dtypes or values are not the module's; it is unchanged then.
    """
    state = _state(module)
    expected = _expected(state)
    entries, body = _entries(weights, expected)
    stored = {name: _bytes_of(body, entry) for name, entry in entries.items()}
    for name, value in state.items():
        if not torch.equal(stored[name], _bits(value)):
            raise Damaged(_difference(name, stored[name], value))
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(stored[name].view(value.dtype).reshape(value.shape))


def _entries(weights: memoryview, expected: Mapping[str, _Expected]) -> tuple[dict[str, _Entry], memoryview]:
    """The header's entries, one for each expected tensor and end to end over the body, and the body."""
    header_max = _LENGTH_BYTES + sum(_ENTRY_BYTES_MAX + 6 * len(name) for name in expected)
    if weights.nbytes < _LENGTH_BYTES:
        raise Damaged("the weights are cut off")
    length = int.from_bytes(weights[:_LENGTH_BYTES], "little")
    if length > min(header_max, weights.nbytes - _LENGTH_BYTES):
        raise Damaged(f"the weights' header claims {length:,} bytes")
    entries = _decoded(weights[_LENGTH_BYTES : _LENGTH_BYTES + length])
    body = weights[_LENGTH_BYTES + length :]
    if entries.keys() != expected.keys():
        odd = sorted(entries.keys() ^ expected.keys())[0]
        raise Damaged(f"the weights are of other tensors than the blueprint has ({odd[:80]!r})")
    at = 0
    for name, entry in entries.items():
        want = expected[name]
        if (entry.dtype, entry.shape) != (want.dtype, want.shape):
            raise Damaged(f"{name} is {entry.dtype} {entry.shape}; it must be {want.dtype} {want.shape}")
        if entry.data_offsets != (at, at + want.nbytes):
            raise Damaged(f"{name} is said to lie at {entry.data_offsets}, not at {(at, at + want.nbytes)}")
        at += want.nbytes
    if at != body.nbytes:
        raise Damaged(f"the weights have {body.nbytes:,} bytes of values; they must have {at:,}")
    return entries, body


def _decoded(header: memoryview) -> dict[str, _Entry]:
    try:
        entries = _HEADER.decode(header)
        # Written again it must be the same: no name twice, no second spelling, nothing that was passed over.
        same = msgspec.json.encode(entries) == bytes(header).rstrip(b" ")
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise Damaged(f"the weights' header can't be read: {str(error)[:200]}") from None
    if not same:
        raise Damaged("the weights' header names something twice, or is not spelt as safetensors spells it")
    return entries


def _bytes_of(body: memoryview, entry: _Entry) -> Tensor:
    begin, end = entry.data_offsets
    if begin == end:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(body, dtype=torch.uint8, count=end - begin, offset=begin)


def _difference(name: str, stored: Tensor, value: Tensor) -> str:
    read = stored.clone().view(value.dtype)
    if value.is_floating_point() and bool(value.isfinite().all()) and not bool(read.isfinite().all()):
        return f"{name} holds a value that is not finite"
    return f"{name} does not hold the values that the specification's stream gives"


def _state(module: nn.Module) -> dict[str, Tensor]:
    state: dict[str, object] = dict(module.state_dict())
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    odd = sorted(state.keys() - tensors.keys()) or [n for n, v in tensors.items() if v.dtype not in _DTYPES]
    if odd:
        raise Unfit(f"the module's state holds {odd[0]!r}, which is no tensor of a kind that can be stored")
    return tensors


def _expected(state: Mapping[str, Tensor]) -> dict[str, _Expected]:
    return {
        name: _Expected(
            _DTYPES[value.dtype], tuple(value.shape), math.prod(value.shape) * value.element_size()
        )
        for name, value in state.items()
    }


def _bits(value: Tensor) -> Tensor:
    """A tensor's bytes in order, as (N,) of uint8."""
    return value.detach().contiguous().reshape(-1).view(torch.uint8)
