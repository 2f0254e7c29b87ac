"""Copies of many tensors at once: small ones of a kind lie in one piece, which is filled by one call.

A copy of a run holds some tensors for each parameter. The bytes of small ones are soon copied; what takes
time is to make a tensor for each, and to let go of them all. So a moment makes a few pieces, and a tensor
over a part of one only for who asks for it.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

SMALL: Final = 1 << 13
"""Numbers; of a larger tensor the bytes take longer than all else, and it is copied by itself."""
PIECE_MAX: Final = 1 << 17
"""Numbers in a piece, so that it is at most a megabyte: the C library mostly keeps memory of such sizes for
the next who asks."""
PLAIN: Final = frozenset(
    (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
    )
)
_TENSORS: Final = frozenset((Tensor, nn.Parameter))
_CONSTANT: Final = frozenset((bool, int, float, str, type(None)))

Copy: TypeAlias = Callable[[Any], Any]
"""A value → a copy that shares nothing with what changes later."""
CopiesOf: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Values by name → their copies."""


def copied(value: Any) -> Any:
    """A copy that shares nothing with what changes later."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in _CONSTANT or (type(value) is tuple and all(type(one) in _CONSTANT for one in value)):
        return value
    return copy.deepcopy(value)


class Copies(Mapping[str, Any]):
    """The copies by name; nothing in them changes. A small tensor is made anew for each who asks."""

    __slots__ = ("_values", "nbytes")

    def __init__(self, values: Mapping[str, Any], nbytes: int) -> None:
        """`nbytes` is the size of the tensors in bytes."""
        self._values = values
        self.nbytes = nbytes

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        return value.tensor() if type(value) is _Part else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict(self))


class _Piece:
    """Room for small tensors of one dtype on one device, one behind the other."""

    __slots__ = ("_shapes", "_starts", "_whole", "device", "dtype", "itemsize", "numel", "sources")

    def __init__(self, first: Tensor) -> None:
        """For those that are like the `first`."""
        self.dtype = first.dtype
        self.device = first.device
        self.itemsize = first.itemsize
        self.numel = 0
        self.sources: list[Tensor] = []
        self._shapes: list[torch.Size] = []
        self._starts: list[int] = []
        self._whole: Tensor | None = None

    def fill(self) -> None:
        """Copy everything."""
        self._whole = torch.cat([source.view(-1) for source in self.sources])
        self._shapes = [source.shape for source in self.sources]
        self.sources = []

    def tensor(self, number: int) -> Tensor:
        """Raises ValueError before the piece is filled."""
        if self._whole is None:
            raise ValueError("the copies are made at the end of the block")
        shape = self._shapes[number]
        if not self._starts:
            self._starts = [0, *accumulate(each.numel() for each in self._shapes)]
        return self._whole[self._starts[number] : self._starts[number + 1]].view(shape)


class _Part:
    """A tensor in a piece."""

    __slots__ = ("_number", "_piece")

    def __init__(self, piece: _Piece, number: int) -> None:
        self._piece = piece
        self._number = number

    def tensor(self) -> Tensor:
        """Raises ValueError before the piece is filled."""
        return self._piece.tensor(self._number)


class Packer:
    """Makes the copies of one moment; what is not small is copied by `copy_of`."""

    def __init__(self, copy_of: Copy) -> None:
        self._copy_of = copy_of
        self._pieces: list[_Piece] = []

    def __call__(self, values: Mapping[str, Any]) -> Copies:
        """Copies of these; nobody may look into them before all pieces are filled."""
        kept: dict[str, Any] = {}
        nbytes = 0
        for name, value in values.items():
            if _is_plain(value) and (numel := value.numel()) <= SMALL:
                piece = self._piece(value, numel)
                kept[name] = _Part(piece, len(piece.sources))
                piece.sources.append(value)
                piece.numel += numel
                nbytes += numel * piece.itemsize
            else:
                kept[name] = one = self._copy_of(value)
                nbytes += _nbytes(one)
        return Copies(kept, nbytes)

    def fill(self) -> None:
        for piece in self._pieces:
            piece.fill()

    def _piece(self, value: Tensor, numel: int) -> _Piece:
        """One that has room for it; there are few, the newest first."""
        for piece in self._pieces:
            if (
                piece.dtype is value.dtype
                and piece.numel + numel <= PIECE_MAX
                and piece.device == value.device
            ):
                return piece
        piece = _Piece(value)
        self._pieces.insert(0, piece)
        return piece


@contextmanager
def packing(copy_of: Copy = copied) -> Iterator[Packer]:
    """Make all copies of one moment with what this gives; they are whole at the end of the block."""
    packer = Packer(copy_of)
    with torch.no_grad():
        yield packer
        packer.fill()


def nbytes_of(values: Mapping[str, Any]) -> int:
    """Size in bytes of all tensors among the values."""
    return values.nbytes if isinstance(values, Copies) else sum(map(_nbytes, values.values()))


def _nbytes(value: Any) -> int:
    """Of a sparse tensor as if it were dense: its own way to say it raises."""
    return value.numel() * value.itemsize if isinstance(value, Tensor) else 0


def _is_plain(value: Any) -> bool:
    """Whether it is a run of plain numbers."""
    return (
        type(value) in _TENSORS
        and value.dtype in PLAIN
        and value.layout is torch.strided
        and value.is_contiguous()
    )
