"""Checkpoints to save, and whether two are the same to the bit."""

import ctypes
import os
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import Tensor

from esper.checkpoint.store import FOLDER, Checkpoint

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
    torch.complex128, torch.complex64,
    torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool,
)  # fmt: skip
"""What torch trains and counts with."""


@lru_cache(1_000)
def a_checkpoint(epoch: int, tensors: int = 2, size: int = 5) -> Checkpoint:
    """Another for every epoch, with values that no zeroed page looks like."""
    values = {
        f"layers.{number}.weight": torch.arange(1, size + 1) * 0.1 + epoch + number
        for number in range(tensors)
    }
    return Checkpoint(epoch, b'{"policy":"heuristic","epoch":%d}' % epoch, values)


def same(one: Checkpoint | None, other: Checkpoint | None) -> bool:
    """Whether nothing tells them apart: epoch, record, names, dtypes, shapes, bits."""
    if one is None or other is None:
        return one is other
    return (one.epoch, one.record) == (other.epoch, other.record) and same_tensors(one.tensors, other.tensors)


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        (value.dtype, value.shape) == (other[name].dtype, other[name].shape)
        and _memory(value) == _memory(other[name])
        for name, value in one.items()
    )


def _memory(tensor: Tensor) -> bytes:
    """The bytes of the values, read from where they lie."""
    plain = tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    return ctypes.string_at(plain.data_ptr(), plain.nbytes) if plain.nbytes else b""


def forked() -> int:
    """As `os.fork`, also where the process has more than one thread; the child must end by `os._exit`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on
        return os.fork()


def files_of(run: Path, number: int) -> tuple[Path, Path]:
    """A checkpoint's manifest and its tensors."""
    folder = run / FOLDER
    return folder / f"{number:08d}.json", folder / f"{number:08d}.safetensors"


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any dtype and shape, with any bits at all: NaN of every kind, and booleans that are neither 0 nor 1."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4).map(tuple))
    count = torch.Size(shape).numel()
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    flat = torch.tensor(list(raw), dtype=torch.uint8).view(dtype) if raw else torch.empty(0, dtype=dtype)
    return _disguised(draw, flat.reshape(shape))


def _disguised(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    """The same values as a view of something else: turned, thinned, spread, a parameter."""
    match draw(st.integers(0, 5)):
        case 0:
            return tensor.transpose(0, -1) if tensor.dim() else tensor
        case 1:
            return torch.stack([tensor, tensor], dim=-1)[..., 1]
        case 2:
            return tensor.unsqueeze(0).expand(3, *tensor.shape)
        case 3 if tensor.is_floating_point():
            return torch.nn.Parameter(tensor)
        case 4 if tensor.is_complex():
            return tensor.conj()
        case 5 if tensor.is_complex():
            return tensor.conj().imag
    return tensor


RECORDS = st.one_of(st.just(b""), st.binary(max_size=60), st.just(b'{"a":"\n"}\n\n'), st.just(b"\n" * 3))
NAMES = st.text(max_size=12).filter(lambda name: name != "__metadata__" and _is_text(name))
CHECKPOINTS = st.builds(
    Checkpoint,
    epoch=st.integers(0, 2**53 - 1),
    record=RECORDS,
    tensors=st.dictionaries(NAMES, tensors(), max_size=5),
)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
