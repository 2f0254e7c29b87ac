"""The tensors' file: safetensors, written piece by piece, and read only in the spelling in which we write.

The format is 8 bytes of the header's length, little endian; the header, JSON of dtype, shape and place by
name, with spaces to a multiple of 8 bytes; then the values end to end. Wide values come first, so that all
lie aligned. complex128, which the format lacks, is kept as pairs of float64, named in the manifest.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec
import torch
from torch import Tensor

from esper.checkpoint.errors import CheckpointError, Damaged

TENSORS_MAX: Final = 200_000
HEADER_BYTES_MAX: Final = 64 << 20
DIMENSIONS_MAX: Final = 64
"""As many as torch computes with."""
PIECE_BYTES: Final = 4 << 20
"""What is hashed and written at a time."""
_LENGTH_BYTES: Final = 8
_ELEMENTS_MAX: Final = 1 << 48
"""Of a shape, a dimension of 0 counted as 1: strides are computed without overflow."""
_METADATA: Final = "__metadata__"
_NAMES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES: Final = {name: dtype for dtype, name in _NAMES.items()}


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_HEADER: Final = msgspec.json.Decoder(dict[str, _Entry])


class Layout(NamedTuple):
    """How a file of tensors begins, what follows in which order, and its bytes in all."""

    head: bytes
    names: tuple[str, ...]
    pairs: tuple[str, ...]
    """The tensors that are complex128."""
    nbytes: int


def lay_out(tensors: Mapping[str, Tensor]) -> Layout:
    """Plan the file; no value is looked at.

    Raises:
        CheckpointError: a tensor can't be stored: sparse, quantised, without values, or too many of them.
    """
    if len(tensors) > TENSORS_MAX:
        raise CheckpointError(f"there are {len(tensors):,} tensors; a checkpoint holds {TENSORS_MAX:,}")
    for name, tensor in tensors.items():
        _check(name, tensor)
    names = tuple(sorted(tensors, key=lambda name: (-_width(tensors[name]), name)))
    entries, at = {}, 0
    for name in names:
        tensor = tensors[name]
        end = at + tensor.numel() * tensor.element_size()
        entries[name] = _Entry(_stored(tensor.dtype), _stored_shape(tensor), (at, end))
        at = end
    try:
        header = msgspec.json.encode(entries)
    except UnicodeEncodeError as error:
        raise CheckpointError(f"a tensor's name is no text: {error}") from None
    header += b" " * (-len(header) % 8)
    if len(header) > HEADER_BYTES_MAX:
        raise CheckpointError(f"the tensors' names take {len(header):,} bytes, over {HEADER_BYTES_MAX:,}")
    head = len(header).to_bytes(_LENGTH_BYTES, "little") + header
    pairs = tuple(name for name in names if tensors[name].dtype == torch.complex128)
    return Layout(head, names, pairs, len(head) + at)


def pieces(layout: Layout, tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The file's bytes in order, in pieces of at most 4 MiB; copies one tensor at a time, if it must.

    Raises:
        CheckpointError: a tensor's values can't be had.
    """
    yield memoryview(layout.head)
    for name in layout.names:
        try:
            values = memoryview(bits(tensors[name]).numpy().data)
        except RuntimeError as error:  # torch has no memory for a copy, or the device is gone
            raise CheckpointError(f"the values of {name!r} can't be had: {error}") from error
        for at in range(0, len(values), PIECE_BYTES):
            yield values[at : at + PIECE_BYTES]


def bits(tensor: Tensor) -> Tensor:
    """A tensor's bytes in the order of its indices, (N,) of uint8 on the CPU; shares memory if it can."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # Not `reshape`: of one element or none it may keep a stride that is not 1.
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8)


def tensors_of(content: bytearray, pairs: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors, each contiguous, on the CPU and with memory of its own.

    Raises:
        Damaged: the content is not what `pieces` makes; nothing was allocated for more than it has.
    """
    entries, start = _entries(content)
    if not set(pairs) <= entries.keys():
        raise Damaged("lacks a tensor that the manifest names")
    values = torch.frombuffer(content, dtype=torch.uint8)[start:]
    return {name: _tensor(values, entry, name in pairs) for name, entry in entries.items()}


def _tensor(values: Tensor, entry: _Entry, pair: bool) -> Tensor:
    begin, end = entry.data_offsets
    dtype = _DTYPES[entry.dtype]
    try:
        tensor = values[begin:end].clone().view(dtype).reshape(entry.shape)
    except RuntimeError as error:  # torch has no memory left
        raise Damaged(f"can't be held in memory: {error}") from error
    if not pair:
        return tensor
    if dtype is not torch.float64 or entry.shape[-1:] != (2,):
        raise Damaged("has no pairs where the manifest says so")
    return torch.view_as_complex(tensor)


def _entries(content: bytearray) -> tuple[dict[str, _Entry], int]:
    """The header's entries, end to end over the values, and where those begin."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    if start > len(content) or length > HEADER_BYTES_MAX:
        raise Damaged(f"claims a header of {length:,} bytes")
    entries = _decoded(bytes(content[_LENGTH_BYTES:start]))
    at = 0
    for name, entry in entries.items():
        at = _end_of(name, entry, at)
    if start + at != len(content):
        raise Damaged(f"has {len(content) - start:,} bytes of values; its header says {at:,}")
    return entries, start


def _decoded(header: bytes) -> dict[str, _Entry]:
    try:
        entries = _HEADER.decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged(f"has a header that can't be read: {str(error)[:200]}") from None
    if len(entries) > TENSORS_MAX:
        raise Damaged(f"claims {len(entries):,} tensors")
    # Written again it must be the same: no name twice, no second spelling.
    if msgspec.json.encode(entries) != header.rstrip(b" "):
        raise Damaged("has a header that is not spelt as it is written")
    return entries


def _end_of(name: str, entry: _Entry, at: int) -> int:
    """Where the tensor's values end, if they begin at `at` and are what dtype and shape say."""
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        raise Damaged(f"has {name[:80]!r} of dtype {entry.dtype[:20]!r}")
    shape = entry.shape
    if not _computable(shape):
        raise Damaged(f"has {name[:80]!r} of a shape that no tensor has")
    end = at + math.prod(shape) * dtype.itemsize
    if entry.data_offsets != (at, end):
        raise Damaged(f"says that {name[:80]!r} lies at {entry.data_offsets}, not at {(at, end)}")
    return end


def _check(name: str, tensor: Tensor) -> None:
    if name == _METADATA:
        raise CheckpointError(f"a tensor can't be called {_METADATA}")
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        what = "no values" if tensor.device.type == "meta" else f"the layout {tensor.layout}"
        raise CheckpointError(f"{name!r} has {what}; only dense tensors can be stored")
    if tensor.dtype not in _NAMES and tensor.dtype is not torch.complex128:
        raise CheckpointError(f"{name!r} is of {tensor.dtype}, which can't be stored")
    if not _computable(_stored_shape(tensor)):
        raise CheckpointError(f"{name!r} has a shape that can't be stored: {tuple(tensor.shape)}")


def _computable(shape: tuple[int, ...]) -> bool:
    if len(shape) > DIMENSIONS_MAX or min(shape, default=0) < 0:
        return False
    return math.prod(max(size, 1) for size in shape) <= _ELEMENTS_MAX


def _width(tensor: Tensor) -> int:
    return min(tensor.element_size(), 8)


def _stored(dtype: torch.dtype) -> str:
    return _NAMES[torch.float64 if dtype is torch.complex128 else dtype]


def _stored_shape(tensor: Tensor) -> tuple[int, ...]:
    return (*tensor.shape, 2) if tensor.dtype is torch.complex128 else tuple(tensor.shape)
