"""What several live seeds did to each other in one epoch, in figures."""

from typing import Final

import msgspec

JOINT: Final = "joint"
"""Stands for a seed's id: the objective of the network as it runs, with all seeds."""


class PairFacts(msgspec.Struct, frozen=True):
    """Two objectives over the steps that compared them; each is named by its seed's id, or JOINT.

    A cosine is that of the host's two gradients; 0 where one of them is zero.
    """

    one: str
    other: str
    cosine_mean: float
    cosine_min: float
    conflicts: int
    """Steps in which the cosine was below 0."""


class ConflictFacts(msgspec.Struct, frozen=True):
    """One epoch in which objectives were compared; a step is in conflict if any two of them are."""

    steps: int
    """Steps that compared them; 0 if none was due, and then there are no pairs."""
    conflicts: int
    """Those in conflict."""
    excess: float
    """Mean loss with all seeds over the best mean with one alone, minus 1; 0 if no step was due."""
    projected: int
    """Steps in which the host's gradient was the projected one."""
    flops: int
    """What the comparisons cost."""
    pairs: tuple[PairFacts, ...] = ()
    projects_next: bool = False
    """It hurt so much that the next epoch's steps project."""

    @property
    def share(self) -> float:
        """Share of the compared steps that were in conflict; 0 if there were none."""
        return self.conflicts / self.steps if self.steps else 0.0

    @property
    def cosine_min(self) -> float | None:
        """The smallest cosine of any pair in any step; None if none was due."""
        return min((pair.cosine_min for pair in self.pairs), default=None)
