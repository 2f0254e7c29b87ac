"""Room for copies, used again: what a copy that nobody holds any more lay in takes up a later one.

Memory that is new to the process is what makes a large copy slow: the system hands it out page by page, and
clears each when it is first written to. Ten million parameters with Adam, copied over memory that was written
to before, take a quarter of the time.

    block   memory of this process; where it is copied from an accelerator, pinned
    lease   the block, lent out once; every storage over the block holds the lease, and so does every view,
            array or other alias of a tensor, whoever has it
    spare   blocks whose lease is gone: nobody can reach their bytes any more

Only a spare block is lent again. So a copy never changes while anyone holds it or a part of it: the moments
in memory, a rollback, the thread that writes it to disk, or somebody of whom nothing is known here.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from esper.tolaria.copies import Copy, copied

LEAST_BYTES: Final = 1 << 20
"""Smaller tensors are copied as ever: the C library mostly keeps memory of such sizes for the next who asks,
and a loan would take longer than it saves."""
PINS: Final = ("cuda", "xpu")
"""Accelerators whose tensors are copied into pinned memory."""


class Kind(NamedTuple):
    """Blocks of a kind can stand for each other, whatever shape and dtype lies in them."""

    nbytes: int
    pinned: bool


class Spare:
    """What copies of a run leave behind; at most as much as its newest copy takes, and of the same kinds.

    Copies are made by one thread at a time, and let go by any.
    """

    def __init__(self, least_bytes: int = LEAST_BYTES) -> None:
        self._least_bytes = least_bytes
        # Entered again by the thread that has it: what it lets go there may be the last of a lease.
        self._lock = threading.RLock()
        self._blocks: dict[Kind, list[memoryview]] = {}
        self._most: Counter[Kind] = Counter()

    @property
    def nbytes(self) -> int:
        """Bytes that lie spare."""
        with self._lock:
            return sum(kind.nbytes * len(blocks) for kind, blocks in self._blocks.items())

    @contextmanager
    def copying(self) -> Iterator[Copy]:
        """Make all copies of one moment with what this gives; no other kinds stay spare behind it."""
        taken: Counter[Kind] = Counter()

        def copy(value: Any) -> Any:
            kind = self._kind(value) if isinstance(value, Tensor) else None
            if kind is None:
                return copied(value)
            taken[kind] += 1
            return self._lend(kind, value)

        yield copy
        self._settle(taken)

    def _lend(self, kind: Kind, value: Tensor) -> Tensor:
        block = self._take(kind)
        lease = memoryview(block)
        weakref.finalize(lease, self._gone, kind, block).atexit = False
        place = torch.frombuffer(lease, dtype=value.dtype)
        if value.is_contiguous():
            place = place.view(value.shape)
        else:  # in memory as it lies there, if it lies dense: then bytes are copied as they come
            place = place.as_strided(value.shape, torch.empty_like(value, device="meta").stride())
        return place.copy_(value.detach())

    def _take(self, kind: Kind) -> memoryview:
        with self._lock:
            blocks = self._blocks.get(kind)
            if blocks:
                return blocks.pop()
        return _memory(kind)

    def _gone(self, kind: Kind, block: memoryview) -> None:
        """A lease is gone, in whichever thread let go of it last."""
        with self._lock:
            if len(self._blocks.get(kind, ())) < self._most[kind]:
                self._blocks.setdefault(kind, []).append(block)

    def _settle(self, taken: Counter[Kind]) -> None:
        """From now on at most this much lies spare."""
        with self._lock:
            self._most, blocks = taken, self._blocks
            self._blocks = {kind: blocks[kind][:most] for kind, most in taken.items() if kind in blocks}

    def _kind(self, value: Tensor) -> Kind | None:
        """The kind of block that it is copied into; None if it is copied into memory of its own."""
        if value.nbytes < self._least_bytes or type(value) not in (Tensor, nn.Parameter):
            return None
        if value.layout is not torch.strided or value.is_quantized:
            return None
        if value.device.type == "cpu":
            return Kind(value.nbytes, pinned=False)
        if value.device.type in PINS and 0 not in value.stride():
            return Kind(value.nbytes, pinned=True)
        return None


def _memory(kind: Kind) -> memoryview:
    """New memory on the host; what can't be pinned is plain."""
    try:
        block = torch.empty(kind.nbytes, dtype=torch.uint8, device="cpu", pin_memory=kind.pinned)
    except RuntimeError:
        block = torch.empty(kind.nbytes, dtype=torch.uint8, device="cpu")
    return block.numpy().data
