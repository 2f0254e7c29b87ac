"""What Kasmina has in stock: kernels fetched ahead of their use, and blueprints that can't be had.

A kernel holds the very bits that its blueprint would be built with on the spot, so that whether one was
ready in time changes no number of a run: it only decides whether the module was checked beforehand.
"""

from contracts.kernels import KernelSpec
from contracts.report import KernelFacts
from esper.urza.kernel import Kernel
from esper.urza.shelf import Shelf

SHELF_KERNELS = 128
SHELF_BYTES = 64 << 20


class Stock:
    """Ready modules on a shelf, and what to keep off it."""

    def __init__(self) -> None:
        self._shelf = Shelf(SHELF_KERNELS, SHELF_BYTES)
        self._left_out: dict[str, str] = {}
        self.built_here: dict[str, str] = {}
        """Why, by the id of a blueprint that no other process can make; it is built on the spot."""
        self._miscompiled: dict[str, str] = {}
        self._used = self._built = self._fetched = self._damaged = 0

    @property
    def left_out(self) -> dict[str, str]:
        """Why, by the id of a blueprint that could not be compiled."""
        return dict(self._left_out)

    def holds(self, spec: KernelSpec) -> bool:
        """Whether the kernel is ready."""
        return self._shelf.holds(spec)

    def put(self, spec: KernelSpec, kernel: Kernel) -> None:
        """The kernel is ready from now on, until it is taken or others crowd it out."""
        if self._shelf.put(spec, kernel):
            self._fetched += 1

    def take(self, spec: KernelSpec) -> Kernel | None:
        """The ready kernel, which from now on is the caller's alone; None if there is none."""
        kernel = self._shelf.take(spec)
        if kernel is None:
            self._built += 1
        else:
            self._used += 1
        return kernel

    def found_miscompiled(self, blueprint_id: str, reason: str) -> bool:
        """Native code of the blueprint computes something else, and is not kept; whether that is new."""
        known = blueprint_id in self._miscompiled
        self._miscompiled.setdefault(blueprint_id, reason)
        return not known

    def found_damaged(self) -> None:
        """A stored kernel was not what had been published; it is made again."""
        self._damaged += 1

    def leave_out(self, blueprint_id: str, reason: str) -> None:
        """The blueprint is not to be grown in this run; the first reason stays."""
        self._left_out.setdefault(blueprint_id, reason)

    def recall(self, facts: KernelFacts) -> None:
        """Count on from what an earlier process of the run had used; what it left out is left out."""
        self._used, self._built, self._fetched = facts.used, facts.built, facts.fetched
        self._damaged = facts.damaged
        self._left_out = dict(facts.left_out)
        self._miscompiled = dict(facts.miscompiled)

    def facts(self) -> KernelFacts:
        """What was fetched and used so far, and what was wrong."""
        return KernelFacts(
            self._used,
            self._built,
            self._fetched,
            self.left_out,
            self._damaged,
            dict(self.built_here),
            dict(self._miscompiled),
        )
