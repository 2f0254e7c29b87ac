"""Bugs planted in the system's own actors, that the invariants of a whole run have to bring out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from actors.boundary import OpenBoundary
from actors.keeping import Keeper
from actors.preparing import Preparations
from actors.witness import RunWitness
from esper.tolaria.snapshot import Snapshot
from tests.simulation.play import Failed, simulate


@dataclass(frozen=True)
class Mutant:
    """One method of one class, as it would be with the bug."""

    name: str
    bug: str
    of: type
    method: str
    planted: Callable[..., Any]
    says: str
    """What the invariant that finds it says."""
    seed: int
    """One whose run is short and brings it out."""

    @contextmanager
    def alive(self) -> Iterator[None]:
        with mock.patch.object(self.of, self.method, self.planted):
            yield

    def found_by(self, seed: int) -> str:
        """What the run of this seed broke; empty if nothing."""
        with self.alive():
            try:
                simulate(seed)
            except Failed as failed:
                return failed.why
        return ""


_keep = Preparations.keep


def _keep_whatever_is_remembered(self: Preparations, epoch: int, kept: Snapshot | None) -> None:
    """The memories are taken for those of this boundary, of whichever they are."""
    self._prepared = replace(self._prepared, epoch=max(0, epoch - 1))
    _keep(self, epoch, kept)


def _forget_nothing(self: Keeper, epoch: int) -> None:
    """After a rollback the moments of the future that did not happen stay."""


def _record_goes_on(self: RunWitness, memory: object, facts: object) -> None:
    """After a rollback the record stays as it was."""


_settle = OpenBoundary.settle


def _settle_twice(self: OpenBoundary) -> None:
    """A boundary is not taken off the desk once it is settled."""
    deciding = self._deciding
    _settle(self)
    self._deciding = deciding


MUTANTS = (
    Mutant(
        "memories of another boundary",
        "a moment is put together from halves of two boundaries",
        Preparations,
        "keep",
        _keep_whatever_is_remembered,
        "in the moment of epoch",
        9,
    ),
    Mutant(
        "moments of a lost future",
        "a rollback leaves newer moments in memory",
        Keeper,
        "go_back",
        _forget_nothing,
        "the moments in memory",
        2,
    ),
    Mutant(
        "a record that does not go back",
        "the record goes on where the run went back",
        RunWitness,
        "rolled_back",
        _record_goes_on,
        "remembers",
        4,
    ),
    Mutant(
        "settled twice",
        "a boundary is recorded once more at the end of its turn",
        OpenBoundary,
        "settle",
        _settle_twice,
        "epoch recorded more than once",
        12,
    ),
)
