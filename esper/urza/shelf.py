"""Ready kernels in memory, the oldest leaving first; each is taken once, since a graft owns its module."""

import threading
from collections import OrderedDict
from typing import NamedTuple

from contracts.kernels import KernelSpec
from esper.urza.kernel import Kernel


class ShelfStatistics(NamedTuple):
    """As of now."""

    entries: int
    bytes: int
    taken: int
    missed: int
    evicted: int


class Shelf:
    """At most `entries_max` kernels and `bytes_max` bytes of their tensors; any thread may use it."""

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        if entries_max < 1 or bytes_max < 0:
            raise ValueError(f"a shelf of {entries_max} kernels and {bytes_max} bytes holds nothing")
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._kernels: OrderedDict[str, tuple[Kernel, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = self._taken = self._missed = self._evicted = 0

    def put(self, spec: KernelSpec, kernel: Kernel) -> bool:
        """Keep a kernel, in place of one of the same specification; False if it alone is too large."""
        key, size = spec.key, kernel.nbytes
        with self._lock:
            self._drop(key)
            if size > self._bytes_max:
                return False
            self._kernels[key] = (kernel, size)
            self._bytes += size
            while len(self._kernels) > self._entries_max or self._bytes > self._bytes_max:
                self._drop(next(iter(self._kernels)))
                self._evicted += 1
        return True

    def take(self, spec: KernelSpec) -> Kernel | None:
        """The kernel, which is then no longer on the shelf; None if it isn't there."""
        key = spec.key
        with self._lock:
            kernel = self._drop(key)
            if kernel is None:
                self._missed += 1
            else:
                self._taken += 1
        return kernel

    def holds(self, spec: KernelSpec) -> bool:
        return spec.key in self._kernels

    def statistics(self) -> ShelfStatistics:
        with self._lock:
            return ShelfStatistics(len(self._kernels), self._bytes, self._taken, self._missed, self._evicted)

    def __len__(self) -> int:
        return len(self._kernels)

    def _drop(self, key: str) -> Kernel | None:
        found = self._kernels.pop(key, None)
        if found is None:
            return None
        kernel, size = found
        self._bytes -= size
        return kernel
