"""Copies of many tensors at once: small ones of a kind lie in one piece, which is filled by one call.

A copy of a run holds some tensors for each parameter. The bytes of small ones are soon copied; what takes
time is to make a tensor for each, and to let go of them all. So a moment makes a few pieces, and a tensor
over a part of one only for who asks for it.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors

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
    kind = type(value)
    if kind in _CONSTANT or (kind is tuple and all(type(one) in _CONSTANT for one in value)):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    return copy.deepcopy(value)


class Copies(Mapping[str, Any]):
    """The copies by name; nothing in them changes. A small tensor is made anew for each who asks."""

    __slots__ = ("_kept", "nbytes")

    def __init__(self, kept: Mapping[str, "_Kept"], nbytes: int) -> None:
        """`nbytes` is the size of the tensors in bytes."""
        self._kept = kept
        self.nbytes = nbytes

    def __getitem__(self, name: str) -> Any:
        piece, start, what = self._kept[name]
        return what if piece is None else piece.tensor(start, what)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return repr(dict(self))


class _Piece:
    """Room for small tensors of one dtype on one device, one behind the other."""

    __slots__ = ("device", "dtype", "itemsize", "numel", "sources", "whole")

    def __init__(self, first: Tensor) -> None:
        """For those that are like the `first`."""
        self.dtype = first.dtype
        self.device = first.device
        self.itemsize = first.itemsize
        self.numel = 0
        self.sources: list[Tensor] = []
        self.whole: Tensor | None = None

    def tensor(self, start: int, shape: torch.Size) -> Tensor:
        """What begins with the number `start`.

        Raises:
            ValueError: the piece is not filled yet.
        """
        if self.whole is None:
            raise ValueError("the copies are made at the end of the block")
        return self.whole[start : start + shape.numel()].view(shape)

    def fill(self) -> None:
        """Copy everything."""
        sources = self.sources
        if len(sources) == 1:  # what is made of one alone would be no copy
            self.whole = torch.cat([sources[0].view(-1)])
        else:
            self.whole = _flatten_dense_tensors(sources)  # type: ignore[no-untyped-call]
        self.sources = []


_Kept: TypeAlias = tuple[_Piece | None, int, Any]
"""A piece, the number with which a tensor begins there, and its shape; or no piece, and the copy itself."""


class Packer:
    """Makes the copies of one moment; what is not small is copied by `copy_of`."""

    def __init__(self, copy_of: Copy) -> None:
        self._copy_of = copy_of
        self._pieces: list[_Piece] = []

    def __call__(self, values: Mapping[str, Any]) -> Copies:
        """Copies of these; nobody may look into them before all pieces are filled."""
        kept: dict[str, _Kept] = {}
        nbytes = 0
        for name, value in values.items():
            if _is_plain(value) and (numel := value.numel()) <= SMALL:
                piece = self._piece(value, numel)
                kept[name] = piece, piece.numel, value.shape
                piece.sources.append(value)
                piece.numel += numel
                nbytes += numel * piece.itemsize
            else:
                one = self._copy_of(value)
                kept[name] = None, 0, one
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
